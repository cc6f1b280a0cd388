"""What can be wrong with an artifact, its signature, the store or the place it comes from.

RouteIQError
└── ArtifactError              the root of these; the strategy in use stays in use
    ├── InvalidArtifact        not an artifact, damaged, truncated or not what its manifest says
    ├── SignatureRefused       unsigned where a signature is required, unknown key, or a wrong signature
    ├── MismatchedArtifact     whole, but not for this gateway: other features, a strategy that is not known
    ├── StoreError             nothing to promote or roll back to, or the store cannot be written
    └── SourceError            the place could not be read: network, rights, not there
        └── SourceChanged      it was replaced while it was read: read it again later
"""

from __future__ import annotations

from routeiq.exceptions import RouteIQError


class ArtifactError(RouteIQError):
    """An artifact cannot be used; whatever was in use stays in use."""


class InvalidArtifact(ArtifactError):
    """Not an artifact, damaged, truncated, or its bytes are not those that the manifest names."""


class SignatureRefused(ArtifactError):
    """Unsigned where a signature is required, signed by an unknown key, or signed wrongly."""


class MismatchedArtifact(ArtifactError):
    """Whole and well signed, but made for other features or a strategy that this gateway does not have."""


class StoreError(ArtifactError):
    """The store has no such version, nothing to go back to, or cannot be written."""


class SourceError(ArtifactError):
    """The place that artifacts come from could not be read."""


class SourceChanged(SourceError):
    """The object was replaced while it was read; the next poll sees the new one."""
