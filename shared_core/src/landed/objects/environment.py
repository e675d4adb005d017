"""What the environment says of the store and its servers, looked at before the client reads it.

The client shows the addresses of servers in its errors, whole, and panics at some settings.
"""

from __future__ import annotations

import os
import re

from landed.errors import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

ENDPOINTS: Final = (
    "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT",
    "GOOGLE_BASE_URL",
)  # fmt: skip
"""Where the environment names a server other than the provider's own."""

ASKED: Final = {
    "s3": ("AWS_METADATA_ENDPOINT", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    "az": (
        "AZURE_STORAGE_AUTHORITY_HOST", "AZURE_AUTHORITY_HOST", "AZURE_MSI_ENDPOINT", "AZURE_IDENTITY_ENDPOINT",
        "IDENTITY_ENDPOINT", "AZURE_FABRIC_TOKEN_SERVICE_URL", "AZURITE_BLOB_STORAGE_URL",
    ),
    "gs": ("GCE_METADATA_IP",),
}  # fmt: skip
"""Where it names one that is asked for credentials, or stands in for the provider's."""

SENT: Final = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"),
    "az": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_TOKEN"),
}
"""What the client sends as it is, and panics at where a line ends in it, as in secrets that come from files."""

_NOT_SHOWN: Final = re.compile(r"[@?\s]")
"""What is in no address of a server that may stand in an error."""


def check(shown: str) -> None:
    """See that the client can be given the environment.

    Args:
        shown: the address of the store.

    Raises:
        Refused: credentials stand in the address of a server, or a setting has a line break in it.
    """
    scheme = shown.partition(":")[0]
    for name in (*ENDPOINTS, *ASKED[scheme]):
        if _NOT_SHOWN.search(os.environ.get(name, "")):
            raise Refused(
                f"{name} in the environment has credentials or a query in the address of a server, or a space",
                path=shown,
                step="open",
                hint="Set them apart, as in AWS_ACCESS_KEY_ID: the store's client shows the address in its errors.",
            )
    for name in SENT.get(scheme, ()):
        if "\n" in os.environ.get(name, ""):
            raise Refused(f"{name} in the environment has a line break in it", path=shown, step="open")


def endpoint() -> str:
    """The server that the environment names, or "" for the provider's own."""
    return next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), "")
