import { useEffect, useState } from "react";

const SETTLED_MILLISECONDS = 300;

/** Return a value when it has not changed for a moment, so that not each key that is typed sends a request. */
export const useSettled = <T>(value: T): T => {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), SETTLED_MILLISECONDS);
    return () => clearTimeout(timer);
  }, [value]);
  return settled;
};
