"""Names with markup that must stay text wherever they are written."""

HOSTILE = (
    "</script><script>alert(1)</script>",
    "]]><img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    '"><b onmouseover=alert(1)>',
    "a|b](javascript:alert(1)) `c` \n# d",
    "${alert(1)} @SCRIPT@ @GRAPH@ {{x}}",
    "\x00\x01\ud800\u202egnp.exe",
)
