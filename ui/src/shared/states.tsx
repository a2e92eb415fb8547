// What stands in for a page that has nothing to show yet.
import { Box, Heading, Spinner, Text } from "@chakra-ui/react";
import type { ReactNode } from "react";

import type { Answer, ApiError } from "./api";

export const Loading = ({ what }: { readonly what: string }) => (
  <Box alignItems="center" color="fg.muted" display="flex" gap={3} p={6} role="status">
    <Spinner size="sm" />
    <Text>Loading {what}…</Text>
  </Box>
);

export const Empty = ({ title, children }: { readonly title: string; readonly children?: ReactNode }) => (
  <Box maxW="2xl" mx="auto" px={6} py={16} textAlign="center">
    <Heading as="h2" size="md">
      {title}
    </Heading>
    <Text color="fg.muted" mt={2}>
      {children}
    </Text>
  </Box>
);

const NOT_FOUND = "There is nothing at this address, or you may not see it.";
const ERRORS: Record<number, string> = {
  0: "Airflow did not answer. Check the connection, and load the page again.",
  401: "Your login has ended. Load the page again to log in.",
  403: "You may not see this. Ask for the permission to read the DAG.",
  404: NOT_FOUND,
  // A name that nothing can have, such as one with a control character.
  422: NOT_FOUND,
};

export const Failure = ({ error }: { readonly error: ApiError }) => (
  <Box bg="error.subtle" borderRadius="md" color="error.fg" m={4} p={4} role="alert">
    <Text fontWeight="semibold">{ERRORS[error.status] ?? "The page could not be read."}</Text>
    {error.status in ERRORS ? null : (
      <Text fontFamily="mono" fontSize="sm" mt={1} whiteSpace="pre-wrap" wordBreak="break-word">
        {error.status} {error.message}
      </Text>
    )}
  </Box>
);

/** Show the value of an answer, or that it is loading or could not be read. */
export const Show = <T,>({
  answer,
  what,
  children,
}: {
  readonly answer: Answer<T>;
  readonly what: string;
  readonly children: (value: T) => ReactNode;
}) => (
  <>
    {answer.error === undefined ? null : <Failure error={answer.error} />}
    {answer.value === undefined ? null : children(answer.value)}
    {answer.value === undefined && answer.error === undefined ? <Loading what={what} /> : null}
  </>
);
