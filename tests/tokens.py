"""A login that Usher did not write: makes keys, and signs tokens with PyJWT.

Reads one JSON object a line, and answers with one:
  {"key": NAME, "kind": "rsa"|"rsa1024"|"p256"|"p384"|"ed25519"}
      -> {"pem": public key, "private": private key, "jwk": public key as a JWK}
  {"sign": NAME or {"secret": S}, "alg": A, "claims": {...}, "headers": {...}}
      -> {"token": T}
"""

import json
import sys

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt import algorithms, api_jws

MAKE = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "rsa1024": lambda: rsa.generate_private_key(65537, 1024),
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}
TO_JWK = {
    "rsa": algorithms.RSAAlgorithm.to_jwk,
    "rsa1024": algorithms.RSAAlgorithm.to_jwk,
    "p256": algorithms.ECAlgorithm.to_jwk,
    "p384": algorithms.ECAlgorithm.to_jwk,
    "ed25519": algorithms.OKPAlgorithm.to_jwk,
}

keys = {}


def make(name, kind):
    key = keys[name] = MAKE[kind]()
    public = key.public_key()
    jwk = json.loads(TO_JWK[kind](public))
    jwk.pop("key_ops", None)
    return {
        "pem": public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode(),
        "private": key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
        "jwk": {**jwk, "kid": name, "use": "sig"},
    }


def sign(order):
    name = order["sign"]
    key = name["secret"] if isinstance(name, dict) else keys[name]
    # As bytes: of claims PyJWT would refuse some that no login should write.
    token = api_jws.encode(
        json.dumps(order["claims"]).encode(),
        key,
        algorithm=order["alg"],
        headers=order.get("headers"),
    )
    return {"token": token}


for line in sys.stdin:
    order = json.loads(line)
    answer = make(order["key"], order["kind"]) if "key" in order else sign(order)
    print(json.dumps(answer), flush=True)
