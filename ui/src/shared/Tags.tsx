import { Badge } from "@chakra-ui/react";

/** Show the tags of a version, or the aliases of a model's version. */
export const Tags = ({ tags }: { readonly tags: readonly string[] }) => (
  <span className="zen-badges">
    {tags.map((tag) => (
      <Badge colorPalette="purple" key={tag}>
        {tag}
      </Badge>
    ))}
  </span>
);
