"""An issuer by PyJWT: a set of keys that holds every kind, tokens that are good and tokens that are not.

    python3 xtask/interop/python/issuer.py FOLDER

Over and above what tokens.py writes: set.json, all keys and the secret in one JWKS;
refused.json, tokens that nobody may accept, each with what is wrong with it; and publishers.json,
tokens to push with.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import sys
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import tokens


def main(folder: pathlib.Path) -> None:
    private = tokens.write(folder)
    keys = json.loads((folder / "keys.json").read_text())["keys"]
    secret = jwt.get_algorithm_by_name("HS256").to_jwk(tokens.SECRET, as_dict=True)
    secret = {"kty": secret["kty"], "k": secret["k"], "kid": "secret"}
    tokens.write_json(folder / "set.json", {"keys": [*keys, secret]})

    now = int(time.time())
    stranger = rsa.generate_private_key(65537, 2048)
    public = private["rsa"].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def entry(why: str, key: object = private["rsa"], algorithm: str = "RS256", kid: str = "rsa", **changes):
        # What is to be left out is None.
        claims = {name: value for name, value in (tokens.CLAIMS | changes).items() if value is not None}
        token = jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid})
        return {"why": why, "token": token}

    refused = [
        entry("it has expired", exp=now - 3600),
        entry("it never expires", exp=None),
        entry("it is not yet valid", nbf=now + 3600),
        entry("it is for somebody else", aud=["others"]),
        entry("it is for nobody", aud=None),
        entry("it is by another issuer", iss="https://else.test"),
        entry("it has no user", sub=None),
        entry("its events are others", events=["mail"]),
        entry("its key is another", key=stranger),
        entry("its key is unknown", key=stranger, kid="stranger"),
        entry("its algorithm is none", key=None, algorithm="none"),
        {"why": "a public key served as its secret", "token": signed_by_hand(public)},
    ]
    tokens.write_json(folder / "refused.json", refused)

    def publisher(**changes) -> str:
        claims = {"aud": "wserver-publishers", "users": ["*"], "events": ["*"]}
        return entry("", **(claims | changes))["token"]

    publishers = {
        "everything": publisher(),
        "some": publisher(users="jack", events="order.* mail"),
        "expired": publisher(exp=now - 3600),
    }
    tokens.write_json(folder / "publishers.json", publishers)


def signed_by_hand(secret: bytes) -> str:
    """PyJWT does not lend itself to this."""
    header = {"alg": "HS256", "kid": "rsa"}
    parts = [json.dumps(part).encode() for part in (header, tokens.CLAIMS)]
    message = b".".join(map(base64url, parts))
    return (message + b"." + base64url(hmac.digest(secret, message, hashlib.sha256))).decode()


def base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
