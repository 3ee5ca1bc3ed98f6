#!/usr/bin/env python3
"""A second verifier of transcripts: docs/transcript.md read by somebody who shares no code with the programs.

    docs/verify.py --bundle BUNDLE.toml --keys KEYS.json FILE…
    docs/verify.py --bundle BUNDLE.toml --keys KEYS.json --each <LIST

Prints one line of JSON for each transcript: what is proved, or why it is refused. The exit status is 0 when all are
proved to their end. With --each every line of standard input names a file, and after it pairs of an offset and the
byte to be put there: so the tests compare changed transcripts with the programs' own verdicts.

Needs Python 3.11 and the package `cryptography`. Absent: receipts, the list of who did what, transcripts without a
trust bundle, and whether a provider may be pinned (`bz` refuses such a bundle; this takes the bundle as its reader's).
"""

import argparse
import base64
import functools
import hashlib
import ipaddress
import json
import math
import re
import sys
import tomllib
import uuid

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

HEAD = b"\x89bztr\r\n\x1a\x00\x01"
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SKEW, MAX_OPENING, MAX_JOB_TOKEN = 60_000, 900_000, 3_600_000
MAX_RECORD, MAX_PAYLOAD, MAX_TOKEN, MAX_CERT = 156_672, 65_536, 16_384, 33_792
BYTES, CHECKPOINT, REAUTHENTICATE, FIN, REPORT = 1, 3, 5, 8, 12
OF_STREAM = {1, 2, 9, 10, 11, 12}
FROM = {0: {4, 5, 9}, 1: {6, 7, 10, 12}}  # kinds that only the client, only the agent sends
SIGNERS = ("bz/1 client checkpoint;", "bz/1 agent checkpoint;")
LIMITS = {
    "bz/1 server certificate;": 1024, "bz/1 directory entry;": 2048, "bz/1 grant;": 16_384, "bz/1 syn;": 65_536,
    "bz/1 syn ack;": 16_384, "bz/1 client checkpoint;": 512, "bz/1 agent checkpoint;": 512, "bz/1 segment;": 512,
    "bz/1 stream report;": 1024, "bz/1 record;": 1024,
}


class Refused(Exception):
    pass


def need(holds, why):
    if not holds:
        raise Refused(why)


# Bytes.


class Reader:
    """Fields in their order, all of them, and nothing after the last."""

    def __init__(self, data, limit=None):
        need(limit is None or len(data) <= limit, "too large")
        self.data, self.at = data, 0

    def take(self, count):
        piece = self.data[self.at : self.at + count]
        need(len(piece) == count, "cut short")
        self.at += count
        return piece

    def number(self, size):
        return int.from_bytes(self.take(size), "big")

    def u64(self):
        return self.number(8)

    def string(self):
        return self.take(self.number(8))

    def text(self):
        try:
            return self.string().decode()
        except UnicodeDecodeError as error:
            raise Refused("no text") from error

    def choice(self, count):
        variant = self.number(4)
        need(variant < count, "an unknown choice")
        return variant

    def boolean(self):
        value = self.number(1)
        need(value < 2, "no boolean")
        return value == 1

    def option(self, read):
        return read() if self.boolean() else None

    def several(self, read):
        return [read() for _ in range(self.number(8))]

    def key(self):
        data = self.take(65)
        public(data)
        return data

    def signed(self):
        return self.string(), self.take(64)

    def end(self, result=None):
        need(self.at == len(self.data), "trailing bytes")
        return result


def sha256(data):
    return hashlib.sha256(data).digest()


def labelled(label, *parts):
    return sha256(label.encode() + b"\0" + b"".join(len(p).to_bytes(8, "big") + p for p in parts))


@functools.lru_cache(4096)
def public(data):
    need(len(data) == 65 and data[0] == 4, "no uncompressed point")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data)
    except ValueError as error:
        raise Refused("no point of the curve") from error


@functools.lru_cache(65536)
def ecdsa(key, message, signature, low):
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if len(signature) != 64 or (low and s > ORDER // 2):
        return False
    try:
        public(key).verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
        return True
    except InvalidSignature:
        return False


def body_of(signed, label):
    """The fields of a signed object before its signature is checked: for finding the key that checks it."""
    reader = Reader(signed[0], LIMITS[label])
    header = (reader.text(), reader.number(2), reader.take(16))
    return reader, header


def opened(signed, key, label, organization, read):
    """A signed object's body, read whole and checked."""
    reader, header = body_of(signed, label)
    body = read(reader)
    extensions = reader.several(lambda: (reader.number(2), reader.boolean(), reader.string()))
    reader.end()
    need(ecdsa(key, label.encode() + b"\0" + signed[0], signed[1], True), f"{label} the signature does not verify")
    need(header == (label, 1, organization), f"{label} of another purpose, version or organization")
    need(len(extensions) <= 16 and not any(critical for _, critical, _ in extensions), f"{label} extensions")
    return body


def digest_of(signed, label):
    return labelled(label, *signed)


# Identity.


def b64(text):
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise Refused("no base64url") from error
    need(base64.urlsafe_b64encode(data).rstrip(b"=").decode() == text, "no canonical base64url")
    return data


def strict(data):
    """A JSON object without a name twice, at most eight deep."""

    def pairs(found):
        need(len(dict(found)) == len(found), "a name twice")
        return dict(found)

    def real(text):
        need(math.isfinite(float(text)), "a number out of range")
        return float(text)

    def never(_):
        raise Refused("no JSON")

    def walk(value, depth):
        need(depth <= 8, "nested too deep")
        if isinstance(value, str):
            value.encode()
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(inner, depth + 1)

    whole = lambda text: -0.0 if text == "-0" else int(text)
    try:
        value = json.loads(data.decode(), object_pairs_hook=pairs, parse_float=real, parse_int=whole, parse_constant=never)
        walk(value, 0)
    except (ValueError, RecursionError) as error:
        raise Refused("no JSON") from error
    need(isinstance(value, dict), "no JSON object")
    return value


def claim(claims, name):
    value = claims.get(name)
    need(isinstance(value, str) and 0 < len(value.encode()) <= 512, f"the claim {name}")
    return value


def seconds(claims, name):
    value = claims.get(name)
    need(type(value) is int and 0 <= value < 1 << 64, f"the claim {name}")
    return min(value * 1000, (1 << 64) - 1)


def canonical(jwk):
    """RFC 7638, section 3.2."""
    names = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}.get(jwk.get("kty"))
    if names is None or jwk.get("use", "sig") != "sig" or any(name not in jwk for name in names):
        return None
    return json.dumps({name: jwk[name] for name in names}, separators=(",", ":"), ensure_ascii=False).encode()


@functools.lru_cache(1024)
def token_signed(kind, jwk, message, signature):
    jwk = json.loads(jwk)
    try:
        if kind == "EC":
            return ecdsa(b"\4" + b64(jwk["x"]) + b64(jwk["y"]), message, signature, False)
        if kind == "RSA":
            modulus = b64(jwk["n"])
            need(256 <= len(modulus) <= 1024, "an RSA key of another size")
            numbers = rsa.RSAPublicNumbers(int.from_bytes(b64(jwk["e"]), "big"), int.from_bytes(modulus, "big"))
            numbers.public_key().verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        else:
            ed25519.Ed25519PublicKey.from_public_bytes(b64(jwk["x"])).verify(signature, message)
        return True
    except (InvalidSignature, ValueError, Refused):
        return False


def split_token(token):
    need(len(token.encode()) <= MAX_TOKEN and token.count(".") >= 2, "no token")
    message, signature = token.rsplit(".", 1)
    header, payload = message.split(".", 1)
    return strict(b64(header)), b64(payload), message.encode(), b64(signature)


def audiences(claims):
    value = claims.get("aud")
    found = [value] if isinstance(value, str) else value
    need(isinstance(found, list) and len(found) <= 16 and all(isinstance(a, str) for a in found), "the claim aud")
    return found


def says(found, value):
    if isinstance(found, list):
        return len(found) <= 64 and value in [one for one in found if isinstance(one, str)]
    if isinstance(found, bool):
        return value == ("true" if found else "false")
    return found == value if isinstance(found, str) else isinstance(found, (int, float)) and json.dumps(found) == value


def subject_of(row, owner):
    return ",".join(f"{name}={value}" for name, value in sorted({**row, **owner}.items()))


def job(provider, owner, claims):
    """The one row that a job's claims fit, as its subject."""
    odd = {"github": ("event_name", ("pull_request", "pull_request_target")), "circleci": ("oidc.circleci.com/ssh-rerun", ("true",))}
    name, values = odd.get(provider["kind"], ("", ()))

    def fits(row):
        unasked = name not in row and any(says(claims.get(name), value) for value in values)
        return all(says(claims.get(claim), value) for claim, value in row.items()) and not unasked

    rows = [row for row in provider.get("workloads", []) if fits(row)]
    need(rows, "a job that no row means")
    return subject_of(max(rows, key=lambda row: (len(row), subject_of(row, {}))), owner)


def check_token(token, keys, provider, exact, expiry, now):
    """What a token says, and the thumbprint of the key that signed it."""
    header, payload, message, signature = split_token(token)
    need("crit" not in header, "a critical header")
    algorithm = claim(header, "alg")
    kind = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}.get(algorithm)
    need(kind, "an algorithm that is not allowed")
    curve = {"EC": "P-256", "OKP": "Ed25519"}.get(kind)
    kid = claim(header, "kid") if "kid" in header else None
    fitting = [k for k in keys if k["kty"] == kind and k.get("crv") in ((curve,) if curve else (k.get("crv"),)) and kid in (None, k.get("kid"))]
    key = next((canonical(k) for k in fitting if token_signed(kind, canonical(k), message, signature)), None)
    need(key, "a token that no key of the archive signed")
    claims = strict(payload)
    need(claim(claims, "iss") == provider["issuer"], "a token of another issuer")
    ours = (lambda a: a == exact) if exact else (lambda a: a in provider.get("audiences", []))
    named = audiences(claims)
    need(named and all(ours(a) for a in named), "a token for another audience")
    need(exact or "azp" not in claims or (isinstance(claims["azp"], str) and ours(claims["azp"])), "a token given to another party")
    pinned = provider.get("organization")
    owner = {pinned["claim"]: pinned["value"]} if pinned else {}
    need(all(value and claims.get(name) == value for name, value in owner.items()), "a token of another organization")
    issued, expires = seconds(claims, "iat"), seconds(claims, "exp")
    need(expires > issued and issued <= now + SKEW, "a token of no time, or of the future")
    need(not expiry or now < expires + SKEW, "an expired token")
    said = claim(claims, "sub")
    subject = job(provider, owner, claims) if exact else said
    nonce = claim(claims, "nonce") if "nonce" in claims else None
    listed = provider.get("groups_claim") or (None if provider["kind"] in ("google", "github", "circleci") else "groups")
    groups = claims.get(listed, []) if listed else []
    need(isinstance(groups, list) and len(groups) <= 1024 and all(isinstance(g, str) and len(g.encode()) <= 512 for g in groups), "groups")
    return {"person": (provider["issuer"], subject), "nonce": nonce, "iat": issued, "exp": expires, "address": address(provider, claims), "key": sha256(key)}


def address(provider, claims):
    """What stands before the @ of an address that the organization controls."""
    name, verified = {"microsoft": ("preferred_username", False), "onelogin": ("email", False)}.get(provider["kind"], ("email", True))
    text = claims.get(name)
    if (verified and claims.get("email_verified") is not True) or not isinstance(text, str) or text.count("@") != 1 or len(text.encode()) > 254:
        return None
    local, domain = text.split("@")
    lower = "".join(c.lower() if c.isascii() else c for c in domain)
    return local if local and lower in provider.get("domains", []) else None


def read_certificate(data):
    reader = Reader(data, MAX_CERT)
    names = ("label", "version", "organization", "initial", "current", "key", "algorithm", "random", "proof")
    reads = (reader.text, lambda: reader.number(2), lambda: reader.take(16), reader.text, reader.text, reader.key, lambda: reader.number(2), lambda: reader.take(32), lambda: reader.take(64))
    return reader.end(dict(zip(names, (read() for read in reads))))


def find_provider(bundle, issuer, is_job):
    if issuer.startswith("jwks:"):
        place = issuer.removeprefix("jwks:")
        means = lambda pattern: re.fullmatch(re.escape(pattern).replace(r"\*", "[^/]+"), place)
        need("*" not in place and "%" not in place and any(means(p) for p in bundle.get("service_accounts", [])), "a service account that is not pinned")
        organization = bundle["organization"]
        return {"kind": "oidc", "issuer": issuer, "audiences": [f"bz:{organization}"], "organization": {"claim": "org_id", "value": organization}}
    kinds = {None: ("nonce", "audience"), True: ("audience",), False: ("nonce",)}[is_job]
    found = next((p for p in bundle["provider"] if p["issuer"] == issuer and p.get("commitment", "nonce") in kinds), None)
    need(found, "a provider that is not pinned")
    return found


def check_certificate(data, anchors, organization, ack):
    cert = read_certificate(data)
    need((cert["label"], cert["version"], cert["algorithm"]) == ("bz/1 cert commitment;", 1, 1), "a certificate of another version")
    need(cert["organization"] == organization, "a certificate of another organization")
    claims = strict(split_token(cert["current"])[1])
    named = [a for a in (claims.get("aud") if isinstance(claims.get("aud"), list) else [claims.get("aud")]) if isinstance(a, str)]
    issuer = claim(claims, "iss")
    provider = find_provider(anchors.bundle, issuer, any(a.startswith("bz1:") for a in named))
    parts = (organization, cert["key"], b"\0\1", cert["random"])
    need(ecdsa(cert["key"], b"bz/1 cert proof;\0" + b"".join(parts), cert["proof"], True), "the proof of possession does not verify")
    commitment = base64.urlsafe_b64encode(labelled("bz/1 cert commitment;", *parts, cert["proof"])).rstrip(b"=").decode()
    by_audience = provider.get("commitment", "nonce") == "audience"
    exact = f"bz1:{uuid.UUID(bytes=organization)}:{commitment}" if by_audience else None
    keys, now = anchors.keys.get(issuer, []), ack["verified_at"]
    need(any(sha256(canonical(k)) == ack["idp_key"] for k in keys), "the archive lacks the key that the agent says verified the token")
    initial = check_token(cert["initial"], keys, provider, exact, False, now)
    need(by_audience or initial["nonce"] == commitment, "the login's token is bound to another key")
    current = check_token(cert["current"], keys, provider, exact, True, now)
    need(not by_audience or now < current["iat"] + MAX_JOB_TOKEN + SKEW, "an old token of a job")
    need(current["person"] == initial["person"] and current["iat"] >= initial["iat"], "the tokens are of two people or times")
    need(current["key"] == ack["idp_key"], "another key verified the token")
    return current, initial


# Requests and grants.


def plain(text, pattern):
    need(re.fullmatch(pattern, text), "text that may not stand there")
    return text


def read_user(reader):
    return plain(reader.text(), r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")


def host(text):
    """A host in its one form, or none."""
    try:
        parsed = ipaddress.ip_address(text)
        mapped = parsed.ipv4_mapped if parsed.version == 6 else None
        return (f"::ffff:{mapped}" if mapped else str(parsed)), parsed.max_prefixlen
    except ValueError:
        labels = text.split(".")
        good = all(re.fullmatch(r"(?!-)[a-z0-9_-]{1,63}", label) for label in labels) and len(text) <= 253
        return (text, 0) if good and re.search("[a-z]", text) and not text.startswith("0x") else (None, 0)


def destination(text, rule):
    """HOST:PORT in its one form; a rule may have patterns."""
    name, _, port = text.rpartition(":")
    inner = name[1:-1] if name.startswith("[") and name.endswith("]") and ":" in name else name
    need(inner != name or ":" not in name, "no destination")
    ports = [p for p in port.split("-")]
    good = rule and port == "*" or all(re.fullmatch("[1-9][0-9]{0,4}", p) and int(p) < 65536 for p in ports)
    need(good and len(ports) <= (2 if rule else 1), "no port")
    need(len(ports) == 1 or int(ports[0]) < int(ports[1]) and ports != ["1", "65535"], "no range of ports")
    if rule and inner == "*":
        return text
    network, slash, bits = inner.partition("/")
    named = rule and not slash and inner.startswith("*.")
    form, widest = host(network[2:] if named else network)
    need(form == (network[2:] if named else network) and not (named and widest), "no host")
    need(not slash or rule and widest and re.fullmatch("0|[1-9][0-9]{0,2}", bits) and int(bits) < widest, "no network")
    return text


def ssh_key(blob):
    need(len(blob) <= 128, "no SSH key")
    def string():
        nonlocal blob
        length = int.from_bytes(blob[:4], "big")
        need(len(blob) >= 4 + length, "no SSH key")
        piece, blob = blob[4 : 4 + length], blob[4 + length :]
        return piece
    kind = string()
    if kind == b"ecdsa-sha2-nistp256":
        need(string() == b"nistp256", "no SSH key")
        public(string())
    else:
        need(kind == b"ssh-ed25519" and len(string()) == 32, "no SSH key")
    need(not blob, "no SSH key")


NEEDED, POSSIBLE, NOBODY = "needed", "possible", "none"


def read_parameters(r):
    """The verb that they need, and whether they name a user."""
    kind = r.choice(11)
    size = lambda: (r.number(2), r.number(2))
    if kind == 0:
        plain(r.text(), r"[A-Za-z0-9+._-]{1,64}")
        size()
        return ("shell",), NEEDED
    if kind == 1:
        r.take(16)
        size()
        return ("shell",), NEEDED
    if kind == 2:
        command = r.string()
        command.decode()
        need(0 < len(command) <= 32_768 and b"\0" not in command, "no command")
        return ("shell",), NEEDED
    if kind == 3:
        return ("handler", plain(r.text(), r"[A-Za-z0-9_./-]{1,64}")), NOBODY
    if kind == 4:
        need(1 <= len(r.several(lambda: destination(r.text(), True))) <= 64, "no list of destinations")
        return ("tunnel",), NOBODY
    if kind in (5, 10):
        ssh_key(r.string())
        purpose = r.choice(3) if kind == 10 else None
        return ({None: "tunnel", 1: "file transfer"}.get(purpose, "shell"),), NEEDED
    if kind == 6:
        name = r.string() if r.choice(2) == 0 else b""
        path = r.string()
        (r.boolean(), r.boolean())
        need(0 < len(path) <= 4096 and b"\0" not in path, "no path")
        need(name not in (b".", b"..") and len(name) <= 255 and b"/" not in name and b"\0" not in name, "no file name")
        return ("file transfer",), NEEDED
    if kind == 7:
        destination(r.text(), False)
        wire, tls = r.choice(3), r.boolean()
        need(wire or not tls, "TLS by nobody")
        return ("database",), POSSIBLE if wire else NOBODY
    if kind == 8:
        destination(r.text(), False)
        r.boolean()
        return ("web",), NOBODY
    names = [r.text(), *r.several(r.text)]
    need(all(re.fullmatch("[!-~]{1,256}", name) for name in names) and len(set(names[1:])) == len(names) - 1 <= 32, "no names of a cluster")
    return ("kubernetes",), NOBODY


def read_request(data):
    r = Reader(data, 33_792)
    target, user, mode = r.take(16), r.option(lambda: read_user(r)), r.choice(2)
    try:
        verb, whose = read_parameters(r)
    except UnicodeDecodeError as error:
        raise Refused("no text") from error
    need(whose == POSSIBLE or (user is not None) == (whose == NEEDED), "a user where none belongs, or none")
    return r.end({"target": target, "user": user, "mode": mode, "verb": verb})


VERBS = ("shell", "file transfer", "tunnel", "handler", "database", "web", "kubernetes")


def read_grant(r):
    grant = {"id": r.take(16), "connection": r.take(16), "person": (r.text(), r.text()), "client": r.key(), "agent": r.key(), "boot": r.take(16), "target": r.take(16)}
    verb = VERBS[r.choice(len(VERBS))]
    grant["verb"] = (verb, r.text()) if verb == "handler" else (verb,)
    grant["user"] = r.option(lambda: read_user(r) if r.choice(2) == 0 else True)
    grant["mode"] = r.choice(2)
    (r.boolean(), r.boolean())
    grant["request"] = r.take(32)
    if r.choice(2) == 1:
        r.several(lambda: destination(r.text(), True))
    r.option(lambda: (r.text(), r.u64()))
    r.several(lambda: r.take(16))
    grant["version"], grant["from"], grant["until"] = r.u64(), r.u64(), r.u64()
    r.number(4)
    return grant


def read_server_certificate(r):
    return {"key": r.key(), "purpose": r.choice(3), "node": r.text(), "from": r.u64(), "until": r.u64()}


def certified(signed, purpose, roots, organization, now):
    """The key that a root certified for this purpose and time."""
    for root in roots:
        try:
            cert = opened(signed, root, "bz/1 server certificate;", organization, read_server_certificate)
        except Refused:
            continue
        need(cert["purpose"] == purpose and cert["from"] <= now + SKEW and now < cert["until"], "a certificate for another purpose or time")
        return cert["key"]
    raise Refused("a certificate that no pinned root signed")


# Openings.


def read_predecessor(r):
    return (r.take(32), r.take(32), r.take(32))


def read_syn(r):
    two = lambda: r.number(2)
    return {"versions": r.several(two), "suites": r.several(two), "ephemeral": r.key(), "random": r.take(32), "agent": r.key(), "connection": r.take(16), "request": r.string(), "certificate": r.take(32), "grant": r.string()}


def read_ack(r):
    ack = {"syn": r.take(32), "version": r.number(2), "suite": r.number(2), "ephemeral": r.key(), "random": r.take(32), "credit": (r.u64(), r.u64()), "expires": r.u64(), "idp_key": r.take(32), "verified_at": r.u64()}
    ack["predecessor"] = None
    if r.boolean():
        r.take(16)
        ack["predecessor"] = r.option(lambda: read_predecessor(r))
    r.several(lambda: (r.text(), r.string()))
    return ack


def check_opening(body, full, anchors, embedded):
    """Who opened which session with whom."""
    r = Reader(body)
    syn_wire, data, ack_wire = r.signed(), r.option(r.string), r.signed()
    r.end()
    need((data is not None) == full, "damaged")
    organization, root, keys = embedded
    named = read_syn(body_of(syn_wire, "bz/1 syn;")[0])
    g = Reader(named["grant"], 24_576)
    grant_cert, grant_wire = g.signed(), g.signed()
    g.end()
    if full:
        need(sha256(data) == named["certificate"], "another certificate than the one signed for")
        client = read_certificate(data)["key"]
    else:
        client = read_grant(body_of(grant_wire, "bz/1 grant;")[0])["client"]
    syn = opened(syn_wire, client, "bz/1 syn;", organization, read_syn)
    ack = opened(ack_wire, syn["agent"], "bz/1 syn ack;", organization, read_ack)
    syn_digest, ack_digest = digest_of(syn_wire, "bz/1 syn;"), digest_of(ack_wire, "bz/1 syn ack;")
    need(ack["syn"] == syn_digest, "an answer to another message")
    need(ack["version"] == 1 and 1 in syn["versions"] and ack["suite"] == 1 and 1 in syn["suites"], "an answer that was not offered")
    need(not keys or sha256(keys[0]) == ack["idp_key"], "another key of the identity provider")
    need(full or len(keys) <= 1, "a key that nobody signed for")
    current = None
    if full:
        current, initial = check_certificate(data, anchors, organization, ack)
        need(len(keys) < 2 or sha256(keys[1]) == initial["key"] != current["key"], "a second key that no token needs")
    now = ack["verified_at"]
    key = certified(grant_cert, 0, [root], organization, now)
    grant = opened(grant_wire, key, "bz/1 grant;", organization, read_grant)
    need(grant["from"] <= now + SKEW and now < min(grant["until"], grant["from"] + MAX_OPENING), "a grant of another time")
    request = read_request(syn["request"])
    pairs = (("agent", grant["agent"], syn["agent"]), ("client key", grant["client"], client), ("connection", grant["connection"], syn["connection"]), ("target", grant["target"], request["target"]), ("verb", grant["verb"], request["verb"]), ("mode", grant["mode"], request["mode"]), ("request", grant["request"], sha256(syn["request"])))
    for what, granted, asked in pairs:
        need(granted == asked, f"a grant for another {what}")
    user = request["user"]
    if grant["user"] is True:
        mine = current["address"] if current else user
        need(user is not None and user == mine and user != "root", "a grant for another user")
    else:
        need(grant["user"] == user, "a grant for another user")
    need(current is None or current["person"] == grant["person"], "a grant for another person")
    find_provider(anchors.bundle, grant["person"][0], None)
    session = labelled("bz/1 session;", syn_digest, ack_digest)
    return {"session": session, "client": client, "agent": syn["agent"], "sealed": request["mode"] == 1, "redacted": not full, "grant": grant, "request": request, "ack": ack, "connection": syn["connection"], "digests": syn_digest + ack_digest}


# Frames.


def read_statement(r):
    return {"session": r.take(32), "number": r.u64(), "head": r.take(32), "peer": r.u64(), "peer_head": r.take(32), "bytes": r.u64(), "time": r.u64()}


def read_fin(payload):
    r = Reader(payload, 64)
    kind = r.choice(5)
    value = int.from_bytes(r.take(4), "big", signed=True) if kind < 2 else None
    return r.end([("exited", "signaled", "detached", "closed", "done")[kind], value])


def read_report(r):
    report = (r.take(32), r.number(4))
    if r.choice(2) == 0:
        destination(r.text(), False)
    if r.choice(2) == 0:
        r.text()
    else:
        r.choice(11)
    r.u64()
    return report


def read_opening_of_segment(r):
    return {"connection": r.take(16), "shell": r.take(16), "held": r.take(32), "predecessor": r.option(lambda: read_predecessor(r)), "offset": r.u64(), "lost": r.u64(), "time": r.u64(), "random": r.take(32)}


class Way:
    """What one end sent."""

    def __init__(self, session, direction):
        self.heads = [labelled("bz/1 chain;", session, (b"to agent", b"to client")[direction])]
        self.peer = self.bytes = self.chained = 0
        self.covered = [0, 0]  # by the client's signature, by the agent's
        self.missing, self.phase, self.fin, self.last = False, "open", None, None
        self.sizes = []  # of each frame: bytes of the file, bytes of its stream, whether content is withheld

    @property
    def next(self):
        return len(self.heads) - 1

    def link(self, number, header, commitment):
        return labelled("bz/1 chain;", self.heads[number], header, commitment)


class Transcript:
    """The check of one file, record by record."""

    def __init__(self, data, anchors):
        self.anchors, self.organization = anchors, uuid.UUID(anchors.bundle["organization"]).bytes
        self.roots = [bytes.fromhex(root) for root in anchors.bundle["roots"]]
        self.embedded = self.opening = self.segment = self.directory = self.predecessor = self.claim = None
        self.ways, self.conflicts, self.conflict_bytes, self.begun = None, 0, [0, 0], False
        need(data[: len(HEAD)] == HEAD, "no transcript of this version")
        self.digest = labelled("bz/1 record;", HEAD)
        at, self.cut_off = len(HEAD), 0
        while at < len(data):
            head = data[at : at + 9]
            if len(head) < 9:
                break
            length = int.from_bytes(head[1:5], "big")
            need(length ^ 0xFFFFFFFF == int.from_bytes(head[5:], "big") and length <= MAX_RECORD, "damaged")
            body = data[at + 9 : at + 9 + length]
            if len(body) < length:
                break
            self.record(head[0], body, 9 + length)
            at += 9 + length
        self.cut_off = len(data) - at
        need(self.opening, "no opening")
        need(self.segment or self.predecessor or not self.opening["ack"]["predecessor"], "the session before is not named")

    def record(self, kind, body, size):
        name = ("", "anchors_record", "opening_record", "opening_record", "directory_record", "predecessor_record", "frame", "frame", "handed_out", "conflict", "conflict", "server", "segment_record")
        need(1 <= kind <= 12, "damaged")
        need(self.embedded if kind > 1 else not self.embedded, "a record that has no place there")
        need(kind == 1 or (kind in (2, 3)) == (self.opening is None), "a record that has no place there")
        need(kind not in (4, 5, 12) or not self.begun, "a record that has no place there")
        content = getattr(self, name[kind])(kind, body, size)
        self.digest = labelled("bz/1 record;", self.digest, *(content or (bytes([kind]), body)))

    def anchors_record(self, _, body, __):
        r = Reader(body)
        organization, root, keys = self.embedded = r.take(16), r.key(), r.several(lambda: r.text().encode())
        r.end()
        need(len(keys) <= 2, "damaged")
        need(organization == self.organization, "another organization")
        need(root in self.roots, "a root that is not in the trust bundle")
        first = b"".join(len(k).to_bytes(8, "big") + k for k in keys[:1])
        return b"\1", organization + root + len(keys[:1]).to_bytes(8, "big") + first

    def opening_record(self, kind, body, _):
        self.opening = check_opening(body, kind == 2, self.anchors, self.embedded)
        self.session = self.opening["session"]
        self.ways = [Way(self.session, 0), Way(self.session, 1)]
        return b"\2", self.opening["digests"]

    def directory_record(self, _, body, __):
        need(self.directory is None, "a record that has no place there")
        r = Reader(body)
        key, entry = r.key(), r.signed()
        r.end()
        need(key.hex() == self.anchors.bundle.get("directory_key"), "another directory's entry")
        read = lambda r: {"target": r.take(16), "name": r.text(), "agent": r.key(), "address": r.text(), "serial": r.u64(), "until": r.u64()}
        entry = opened(entry, key, "bz/1 directory entry;", self.organization, read)
        need(self.opening["ack"]["verified_at"] < entry["until"], "an entry past its end")
        need((entry["agent"], entry["target"]) == (self.opening["agent"], self.opening["request"]["target"]), "an entry of another agent or target")
        self.directory = entry["name"]

    def predecessor_record(self, _, body, __):
        need(not self.predecessor, "a record that has no place there")
        r = Reader(body)
        self.predecessor = r.end(read_predecessor(r))
        need(self.predecessor == self.opening["ack"]["predecessor"], "another session before than the agent signed")

    def segment_record(self, _, body, __):
        need(not self.segment and not self.predecessor, "a record that has no place there")
        r = Reader(body)
        signed = r.signed()
        r.end()
        segment = opened(signed, self.opening["agent"], "bz/1 segment;", self.organization, read_opening_of_segment)
        need((segment["held"], segment["connection"]) == (self.session, self.opening["connection"]) and not self.opening["sealed"], "a segment of another session")
        self.segment, self.session = segment, digest_of(signed, "bz/1 segment;")
        self.ways = [Way(self.session, 0), Way(self.session, 1)]

    def parse_frame(self, body, full):
        """Direction, header, its fields, payload or none, and commitment."""
        r = Reader(body)
        direction, header = r.number(1), r.take(21)
        rest = body[22:]
        need(direction < 2 and len(rest) <= 16 + MAX_PAYLOAD, "damaged")
        h = Reader(header)
        number, peer, kind, stream = h.u64(), h.u64(), h.number(1), h.number(4)
        need(kind <= 12 and (kind or not stream), "damaged")
        need(len(rest) >= 16 if full else len(rest) == 32, "damaged")
        payload = rest[16:] if full else None
        commitment = labelled("bz/1 payload;", rest[:16], payload) if full else rest
        need(direction == 1 or not self.segment, "a frame to the agent in a segment")
        return direction, header, (number, peer, kind, stream), payload, commitment

    def frame(self, record, body, size):
        direction, header, (number, peer, kind, stream), payload, commitment = self.parse_frame(body, record == 6)
        way, other = self.ways[direction], self.ways[1 - direction]
        need(number == way.next, f"frame {way.next} is missing")
        need(way.peer <= peer <= other.next, "it counts frames that were not sent before it")
        if self.opening["sealed"]:
            if kind:
                need(direction == 1 and kind in (REPORT, FIN) and payload is not None, "it has no place in a sealed session")
                if kind == REPORT:
                    r = Reader(payload, 1280)
                    signed = r.signed()
                    r.end()
                    report = opened(signed, self.opening["agent"], "bz/1 stream report;", self.organization, read_report)
                    need(report == (self.session, stream), "a report of another session or stream")
                else:
                    read_fin(payload)
            else:
                need(payload is None, "content of a sealed frame")
        else:
            need(kind not in (0, REPORT), "it has no place in an inspected session")
            self.inspected(direction, number, peer, kind, stream, payload)
        if payload is None and kind == BYTES:
            way.missing = True
        way.heads.append(way.link(number, header, commitment))
        way.peer, self.begun = peer, True
        way.sizes.append((size, len(payload) if kind == BYTES and payload is not None else 0, payload is None))
        return b"\6", body[:22] + commitment

    def inspected(self, direction, number, peer, kind, stream, payload):
        way = self.ways[direction]
        need(way.phase == "open" or (way.phase == "fin" and kind == CHECKPOINT), "it comes after the end")
        need(number or kind == CHECKPOINT, "the opening is not signed")
        need(kind not in FROM[1 - direction] and (not stream or kind in OF_STREAM), "it has no place there")
        if payload is None:
            need(kind == BYTES or (kind == REAUTHENTICATE and self.opening["redacted"]), "its content is withheld")
        elif kind == CHECKPOINT:
            said = self.statement(direction, payload)
            other = self.ways[1 - direction]
            need((said["number"], said["head"], said["peer"]) == (number, way.heads[number], peer), "another history is signed")
            need(said["peer_head"] == other.heads[peer], "another history of the other end is signed")
            need(said["bytes"] >= way.bytes if way.missing else said["bytes"] == way.bytes, "another count of bytes is signed")
            self.signed(direction, said, 1)
        elif kind == FIN:
            way.fin, way.phase = (number, read_fin(payload)), "fin"
        elif kind == BYTES:
            way.bytes += len(payload)

    def statement(self, direction, payload):
        r = Reader(payload, 640)
        signed = r.signed()
        r.end()
        key = self.opening["client" if direction == 0 else "agent"]
        said = opened(signed, key, SIGNERS[direction], self.organization, read_statement)
        need(said["session"] == self.session, "a checkpoint of another session")
        return said

    def signed(self, direction, said, inside):
        way, other = self.ways[direction], self.ways[1 - direction]
        way.covered[direction] = max(way.covered[direction], said["number"] + inside)
        way.chained = max(way.chained, said["number"])
        way.bytes, way.missing, way.last = said["bytes"], False, said
        if way.phase == "fin":
            way.phase = "signed"
        other.covered[direction] = max(other.covered[direction], said["peer"])
        other.chained = max(other.chained, said["peer"])

    def handed_out(self, _, body, __):
        r = Reader(body, 1024)
        direction, payload = r.choice(2), r.string()
        r.end()
        need(self.opening["sealed"], "a checkpoint outside a sealed session")
        way, other = self.ways[direction], self.ways[1 - direction]
        said = self.statement(direction, payload)
        need(said["number"] <= way.next and said["peer"] <= other.next, "it signs frames that are not there")
        need(way.last is None or said["number"] > way.last["number"], "it is older than the last one")
        need((said["head"], said["peer_head"]) == (way.heads[said["number"]], other.heads[said["peer"]]), "another history is signed")
        self.signed(direction, said, 0)

    def conflict(self, record, body, size):
        direction, header, (number, *_), _, commitment = self.parse_frame(body, record == 9)
        way = self.ways[direction]
        need(number < way.next and way.link(number, header, commitment) != way.heads[number + 1], "no other version of a frame")
        self.conflicts += 1
        self.conflict_bytes[1] += size
        return b"\x09", body[:22] + commitment

    def server(self, _, body, __):
        r = Reader(body)
        certificate, signed = r.signed(), r.signed()
        r.end()
        read = lambda r: {"session": r.take(32), "digest": r.take(32), "frames": [r.u64(), r.u64()], "time": r.u64(), "reason": r.text()}
        time = read(body_of(signed, "bz/1 record;")[0])["time"]
        key = certified(certificate, 2, self.roots, self.organization, time)
        claim = opened(signed, key, "bz/1 record;", self.organization, read)
        need(claim["session"] == self.session and claim["digest"] == self.digest, "a claim about other bytes")
        need(claim["frames"] == [way.next for way in self.ways], "a claim about other frames")
        self.claim, self.begun = claim, True
        self.conflict_bytes = [sum(self.conflict_bytes), 0]

    def verdict(self):
        claimed, tail, ways = [0, 0], [0, self.conflict_bytes[1] + self.cut_off], []
        claimed[1] = self.conflict_bytes[0]
        for direction, way in enumerate(self.ways):
            covered, upto = max(way.covered), self.claim["frames"][direction] if self.claim else 0
            signed, counted = (way.last["number"], way.last["bytes"]) if way.last else (0, 0)
            told = {"frames": covered, "bytes": counted, "withheld": 0, "client": way.covered[0], "agent": way.covered[1]}
            for number, (raw, content, withheld) in enumerate(way.sizes):
                if number < covered:
                    told["withheld"] += withheld
                    told["bytes"] += content if number >= signed else 0
                else:
                    part = claimed if number < upto else tail
                    part[0], part[1] = part[0] + 1, part[1] + raw
            if covered > way.chained:
                part = claimed if covered <= upto else tail
                part[1] += 16
            ways.append(told)
        agent, closed = self.ways[1], [way.phase == "signed" and way.next == max(way.covered) for way in self.ways]
        fin = agent.fin[1] if agent.fin and agent.fin[0] < agent.covered[1] else None
        times = [way.last["time"] if way.last else None for way in self.ways]
        opening, grant = self.opening, self.opening["grant"]
        before = self.segment["predecessor"] if self.segment else opening["ack"]["predecessor"]
        return {
            "session": self.session.hex(), "connection": str(uuid.UUID(bytes=opening["connection"])),
            "issuer": grant["person"][0], "subject": grant["person"][1],
            "identity": "attested" if opening["redacted"] else "proved", "target": str(uuid.UUID(bytes=opening["request"]["target"])),
            "user": opening["request"]["user"], "mode": "sealed" if opening["sealed"] else "inspected",
            "grant": str(uuid.UUID(bytes=grant["id"])), "directory": self.directory, "segment": self.segment is not None,
            "predecessor": before[0].hex() if before else None,
            "started": self.segment["time"] if self.segment else opening["ack"]["verified_at"],
            "ended": times[1] if fin else None, "lastSigned": max((t for t in times if t is not None), default=None),
            "status": fin, "complete": (self.segment is not None or closed[0]) and closed[1],
            "toAgent": ways[0], "toClient": ways[1], "uncoveredTail": tail, "conflicts": self.conflicts,
            "server": [self.claim["time"], self.claim["reason"], *claimed] if self.claim else None,
        }


class Anchors:
    """The administrator's trust bundle, and the identity providers' keys as the verifier kept them."""

    def __init__(self, bundle, keys):
        self.bundle = tomllib.loads(bundle)
        self.keys = {issuer: [k for k in found["keys"] if canonical(k)] for issuer, found in json.loads(keys).items()}


def judge(data, anchors):
    try:
        return {"accepted": True, **Transcript(data, anchors).verdict()}
    except Refused as refused:
        return {"accepted": False, "why": str(refused)}


def main():
    parser = argparse.ArgumentParser(description="Checks transcripts without the server, and without the programs.")
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--keys", required=True)
    parser.add_argument("--each", action="store_true")
    parser.add_argument("files", nargs="*")
    given = parser.parse_args()
    with open(given.bundle, encoding="utf-8") as bundle, open(given.keys, encoding="utf-8") as keys:
        anchors = Anchors(bundle.read(), keys.read())
    good, kept = True, (None, b"")
    for line in (row.split() for row in sys.stdin) if given.each else ([name] for name in given.files):
        if kept[0] != line[0]:
            with open(line[0], "rb") as file:
                kept = (line[0], file.read())
        data = bytearray(kept[1])
        for offset, byte in zip(line[1::2], line[2::2]):
            data[int(offset)] = int(byte)
        verdict = judge(bytes(data), anchors)
        good = good and verdict["accepted"] and verdict["complete"]
        print(json.dumps(verdict), flush=given.each)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
