"""The keys of bearer tokens, as the settings name them.

HS256: one secret signs and verifies. RS256: `JWT_PRIVATE_KEY` signs, if tokens are issued here at all; `JWT_PUBLIC_KEY`
verifies, or the keys that an issuer lists at `JWT_JWKS_URL` (`config.jwks`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

ALGORITHMS = ("HS256", "RS256")
FOR_RS256 = ("JWT_PRIVATE_KEY", "JWT_PUBLIC_KEY", "JWT_JWKS_URL")


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """What signs tokens and what verifies them. A key is text, or what PyJWT has read from a PEM."""

    algorithm: str
    signing: Any  # "" where tokens are issued elsewhere
    verifying: Any  # "" where the keys at the URL alone verify
    jwks_url: str = ""


def chosen(environment: Mapping[str, str], *, secret: str) -> TokenKeys:
    """The keys that the environment names; `secret` is that of HS256. `ValueError` says in one line what is wrong."""
    given = {name: environment.get(name, "").strip() for name in ("JWT_ALGORITHM", "JWT_SIGNING_KEY", *FOR_RS256)}
    algorithm = given["JWT_ALGORITHM"] or "HS256"
    if algorithm not in ALGORITHMS:
        raise ValueError(f"JWT_ALGORITHM must be {' or '.join(ALGORITHMS)}, not {algorithm!r}")
    for name in FOR_RS256 if algorithm == "HS256" else ["JWT_SIGNING_KEY"]:
        if given[name]:
            raise ValueError(f"{name} is set, and is not for JWT_ALGORITHM {algorithm}")
    return _symmetric(secret) if algorithm == "HS256" else _asymmetric(given)


def _symmetric(secret: str) -> TokenKeys:
    try:
        jwt.get_algorithm_by_name("HS256").prepare_key(secret)
    except jwt.InvalidKeyError:
        raise ValueError("JWT_SIGNING_KEY is a key of another algorithm: a long random string is wanted") from None
    return TokenKeys("HS256", signing=secret, verifying=secret)


def _asymmetric(given: Mapping[str, str]) -> TokenKeys:
    if not any(given[name] for name in FOR_RS256):
        raise ValueError("JWT_PUBLIC_KEY is not set, nor JWT_JWKS_URL nor JWT_PRIVATE_KEY: RS256 needs one of them")
    url = given["JWT_JWKS_URL"]
    if url and given["JWT_PUBLIC_KEY"]:
        raise ValueError("JWT_PUBLIC_KEY and JWT_JWKS_URL are both set: one of them says whose tokens are good")
    if url and not url.startswith(("https://", "http://")):
        raise ValueError("JWT_JWKS_URL must be a URL that starts with https:// or http://")
    signing = _rsa("JWT_PRIVATE_KEY", given["JWT_PRIVATE_KEY"], private=True)
    verifying = _rsa("JWT_PUBLIC_KEY", given["JWT_PUBLIC_KEY"], private=False)
    if signing:
        ours = signing.public_key()
        if verifying and verifying != ours:
            raise ValueError("JWT_PUBLIC_KEY does not belong to JWT_PRIVATE_KEY")
        verifying = ours
    return TokenKeys("RS256", signing, verifying, url)


def _rsa(name: str, pem: str, *, private: bool) -> Any:
    """The key in a PEM, whose line ends may be written as `\\n`; "" for none. The text of a key is never told."""
    if not pem:
        return ""
    try:
        algorithm = jwt.get_algorithm_by_name("RS256")
    except NotImplementedError:
        raise ValueError("JWT_ALGORITHM RS256 needs the package `cryptography`, which is not installed") from None
    try:
        key = algorithm.prepare_key(pem.replace("\\n", "\n"))
    except (jwt.InvalidKeyError, ValueError, TypeError):
        key = None
    if key is None or hasattr(key, "public_key") is not private or algorithm.check_key_length(key):
        kind = "private" if private else "public"
        raise ValueError(f"{name} must be the PEM of a {kind} RSA key of 2048 bits or more")
    return key
