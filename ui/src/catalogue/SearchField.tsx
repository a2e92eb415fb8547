import { Input } from "@chakra-ui/react";
import { useEffect, useRef, useState } from "react";

import { useQuery } from "../shared/useQuery";
import { useSettled } from "../shared/useSettled";

interface Props {
  readonly label: string;
  readonly placeholder: string;
  /** The value of the address's query that is searched for. */
  readonly name: string;
}

/**
 * A field whose text is searched for once the reader has stopped typing.
 * The text is not that of the address, which the router changes too late for the next letter.
 */
export const SearchField = ({ label, placeholder, name }: Props) => {
  const [query, setQuery] = useQuery();
  const searched = query(name);
  const [text, setText] = useState(searched);
  const settled = useSettled(text.trim());
  const written = useRef(searched);
  useEffect(() => {
    if (settled === written.current) return;
    written.current = settled;
    setQuery({ [name]: settled });
  }, [settled]);
  useEffect(() => {
    if (searched === written.current) return;
    // A link or the browser's history changed it.
    written.current = searched;
    setText(searched);
  }, [searched]);
  return (
    <Input
      aria-label={label}
      maxW="24rem"
      onChange={({ target }) => setText(target.value)}
      placeholder={placeholder}
      size="sm"
      type="search"
      value={text}
    />
  );
};
