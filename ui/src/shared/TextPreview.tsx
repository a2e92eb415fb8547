import { Text } from "@chakra-ui/react";
import { useEffect, useState } from "react";

import { formatNumber } from "./format";

const LONGEST = 20_000;

/** Show the beginning of a stored text, as text. */
export const TextPreview = ({ url }: { readonly url: string }) => {
  const [text, setText] = useState<string>();
  useEffect(() => {
    const abort = new AbortController();
    fetch(url, { credentials: "include", signal: abort.signal })
      .then(async (response) => setText(response.ok ? await response.text() : `The preview could not be read: ${response.status}`))
      .catch((error: unknown) => {
        if (!abort.signal.aborted) setText(`The preview could not be read: ${String(error)}`);
      });
    return () => abort.abort();
  }, [url]);
  return (
    <>
      <pre className="zen-pre">{text?.slice(0, LONGEST) ?? "Loading…"}</pre>
      {text !== undefined && text.length > LONGEST ? (
        <Text color="fg.muted">The first {formatNumber(LONGEST)} of {formatNumber(text.length)} characters</Text>
      ) : null}
    </>
  );
};
