import { Box, Heading, HStack } from "@chakra-ui/react";
import { type ReactNode, useId } from "react";

/** A part of a page under its heading. */
export const Section = ({
  title,
  aside,
  children,
}: {
  readonly title: string;
  readonly aside?: ReactNode;
  readonly children: ReactNode;
}) => {
  const id = useId();
  return (
    <Box aria-labelledby={id} as="section">
      <HStack justify="space-between" mb={2} wrap="wrap">
        <Heading as="h2" id={id} size="sm">
          {title}
        </Heading>
        {aside}
      </HStack>
      {children}
    </Box>
  );
};
