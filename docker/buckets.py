"""Make the buckets named on the command line, where they are missing."""

from __future__ import annotations

import sys

import boto3


def main(names: list[str]) -> None:
    """Ask for each bucket first: some stores refuse to make one that exists, others do not."""
    s3 = boto3.client("s3")
    existing = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for name in names:
        if name in existing:
            print(f"bucket {name} is there")
            continue
        s3.create_bucket(Bucket=name)
        print(f"bucket {name} made")


if __name__ == "__main__":
    main(sys.argv[1:])
