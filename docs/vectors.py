#!/usr/bin/env python3
"""Checks bz-protocol/tests/vectors against docs/protocol.md, sharing no code with the programs.

Needs the package `cryptography`; without it nothing is checked, and that is said.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import re
import struct
import sys

try:
    from cryptography.exceptions import InvalidSignature, InvalidTag
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
except ImportError as error:
    print(f"left out: the package cryptography is not here ({error})")
    sys.exit(0)

VECTORS = pathlib.Path(__file__).resolve().parent.parent / "bz-protocol/tests/vectors"
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
KINDS = {1: "Syn", 2: "SynAck", 3: "Data", 4: "DataAck", 5: "Control", 6: "Refusal", 7: "Resume", 8: "ResumeAck", 9: "ResumeDone", 10: "Forgotten"}
WAYS = {"client": "to agent", "agent": "to client"}


class Reader:
    """Fields in their order, and nothing after the last."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        piece = self.data[self.at : self.at + count]
        assert len(piece) == count, "a field is cut short"
        self.at += count
        return piece

    def number(self, size):
        return int.from_bytes(self.take(size), "big")

    def string(self):
        return self.take(self.number(8))

    def end(self):
        assert self.at == len(self.data), f"{len(self.data) - self.at} bytes are left"


def sha256(data):
    return hashlib.sha256(data).digest()


def labelled(label, *parts):
    return sha256(label.encode() + b"\0" + b"".join(struct.pack(">Q", len(p)) + p for p in parts))


def private(seed):
    for counter in range(256):
        scalar = int.from_bytes(sha256(b"bz/1 key" + seed + bytes([counter])), "big")
        if 0 < scalar < ORDER:
            return ec.derive_private_key(scalar, ec.SECP256R1())


def public(data):
    assert len(data) == 65 and data[0] == 4, "not an uncompressed point"
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data)


def point(key):
    numbers = key.public_numbers()
    return b"\4" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def verify(key, label, message, signature):
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    assert s <= ORDER // 2, "a high s"
    public(key).verify(encode_dss_signature(r, s), label.encode() + b"\0" + message, ec.ECDSA(hashes.SHA256()))


def opened(wire, key, label):
    """The body of a signed object, and the object's digest."""
    reader = Reader(wire)
    message, signature = reader.string(), reader.take(64)
    reader.end()
    verify(key, label, message, signature)
    body = Reader(message)
    assert body.string().decode() == label and body.number(2) == 1
    body.take(16)
    return body, labelled(label, message, signature)


def expand(key, info):
    return HKDFExpand(algorithm=hashes.SHA256(), length=32, info=info.encode()).derive(key)


def check_objects():
    for row in json.loads((VECTORS / "objects.json").read_text()):
        key = bytes.fromhex(row["public"])
        assert point(private(bytes.fromhex(row["seed"])).public_key()) == key, row["name"]
        _, digest = opened(bytes.fromhex(row["wire"]), key, row["label"])
        assert digest.hex() == row["digest"], row["name"]
        yield row["name"]


def b64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def check_proofs():
    proofs = json.loads((VECTORS / "proofs.json").read_text())
    certificate = proofs["certificate"]
    reader = Reader(bytes.fromhex(certificate["bytes"]))
    assert reader.string() == b"bz/1 cert commitment;" and reader.number(2) == 1
    organization, initial, current, key = reader.take(16), reader.string(), reader.string(), reader.take(65)
    algorithm, random, proof = reader.take(2), reader.take(32), reader.take(64)
    reader.end()
    verify(key, "bz/1 cert proof;", organization + key + algorithm + random, proof)
    commitment = labelled("bz/1 cert commitment;", organization, key, algorithm, random, proof)
    assert b64(certificate["commitment"]) == commitment
    (jwk,) = json.loads(certificate["jwks"])["keys"]
    issuer = b"\4" + b64(jwk["x"]) + b64(jwk["y"])
    for token in (initial, current):
        signed, signature = token.rsplit(b".", 1)
        signature = b64(signature.decode())
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        public(issuer).verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    claims = json.loads(b64(initial.split(b".")[1].decode()))
    assert claims["nonce"] == certificate["commitment"]
    assert sha256(bytes.fromhex(certificate["bytes"])).hex() == certificate["digest"]
    yield "certificate"
    body = proofs["registration"]["body"]
    environment, time = body["environmentName"].encode(), struct.pack(">Q", body["time"])
    organization = bytes.fromhex(body["organizationId"].replace("-", ""))
    identity, control = bytes.fromhex(body["publicKey"]), bytes.fromhex(body["controlKey"])
    names = [body["targetName"].encode(), body["targetHostName"].encode(), environment, b""]
    claim = labelled("bz/1 register identity;", organization, identity, control, time, *names, bytes([body["localPolicy"]]))
    verify(identity, "bz/1 register identity;", claim, b64(body["identityProof"]))
    verify(control, "bz/1 register control;", claim, b64(body["controlProof"]))
    yield "registration"
    call = proofs["call"]
    login, time, random, signature = re.fullmatch(r'Bz login="(.*)", time="(.*)", random="(.*)", signature="(.*)"', call["header"]).groups()
    parts = [bytes.fromhex(login.replace("-", "")), call["method"].encode(), call["target"].encode(), sha256(bytes.fromhex(call["body"])), struct.pack(">Q", int(time)), b64(random)]
    key = point(private(bytes.fromhex(call["clientKeySeed"])).public_key())
    verify(key, "bz/1 rest call;", labelled("bz/1 rest call;", *parts), b64(signature))
    yield "call"


def check_packets():
    for row in json.loads((VECTORS / "packets.json").read_text()):
        wire = bytes.fromhex(row["wire"])
        assert row["name"].startswith(KINDS[wire[0]]), row["name"]
        yield row["name"]


class End:
    """What one end of a session has sent, as an onlooker with its keys sees it."""

    def __init__(self, session, keys, mode, name):
        self.way, self.mode, self.name = WAYS[name], mode, name
        self.head = labelled("bz/1 chain;", session, self.way.encode())
        self.heads, self.number, self.bytes = [self.head], 0, 0
        aead = lambda space: AESGCM(expand(expand(keys, f"bz/1 {mode} channel, {self.way}, {space}"), "bz/1 aead"))
        self.data, self.control = aead("data"), aead("control")
        self.salts = expand(keys, f"bz/1 {mode} salt, {self.way}, data")

    def open(self, cipher, frame, start):
        nonce = bytes(4) + frame[:8]
        if self.mode == "sealed":
            return cipher.decrypt(nonce, frame[start:], frame[:start])
        cipher.decrypt(nonce, frame[-16:], frame[:-16])
        return frame[start:-16]

    def take(self, frame, peer, session, public_key):
        reader = Reader(frame)
        number, seen = reader.number(8), reader.number(8)
        if number < self.number:
            return "again"
        assert number == self.number and seen < len(peer.heads)
        if self.mode == "sealed" and frame[16] == 0:
            inner = self.open(self.data, frame, 21)
            kind, payload, salt, covered = inner[0], inner[5:], bytes(16), frame[-16:]
        else:
            salt = frame[21:37]
            assert salt == hmac.digest(self.salts, frame[:8], "sha256")[:16]
            # Of a sealed session, what stands outside the seal: all of it is covered by the tag.
            assert self.mode != "sealed" or (self.name, frame[16]) in (("agent", 8), ("agent", 12))
            self.data.decrypt(bytes(4) + frame[:8], frame[-16:], frame[:-16])
            kind, payload = frame[16], frame[37:-16]
            covered = payload
        if kind == 3:
            label = f"bz/1 {self.name} checkpoint;"
            body, _ = opened(payload, public_key, label)
            want = [session, struct.pack(">Q", number), self.head, struct.pack(">Q", seen), peer.heads[seen], struct.pack(">Q", self.bytes)]
            assert body.take(sum(map(len, want))) == b"".join(want), "another history is signed"
        elif kind == 1:
            self.bytes += len(payload)
        elif number == 0:
            raise AssertionError("the opening is not signed")
        self.head = labelled("bz/1 chain;", self.head, frame[:21], labelled("bz/1 payload;", salt, covered))
        self.heads.append(self.head)
        self.number += 1
        return kind


def check_session(name):
    told = json.loads((VECTORS / f"{name}.json").read_text())
    packets = [(row["from"], bytes.fromhex(row["wire"])) for row in told["packets"]]
    publics = {"client": bytes.fromhex(told["clientPublic"]), "agent": bytes.fromhex(told["agentPublic"])}
    syn_object = Reader(packets[0][1][1:])
    syn_wire = packets[0][1][1:]
    length = 8 + int.from_bytes(syn_wire[:8], "big") + 64
    syn, syn_digest = opened(syn_object.take(length), publics["client"], "bz/1 syn;")
    certificate = syn_object.string() if syn_object.number(1) else None
    versions = [syn.number(2) for _ in range(syn.number(8))]
    suites = [syn.number(2) for _ in range(syn.number(8))]
    client_ephemeral, _, agent_key = syn.take(65), syn.take(32), syn.take(65)
    syn.take(16)
    syn.string()
    assert (versions, suites, agent_key) == ([1], [1], publics["agent"])
    assert sha256(certificate) == syn.take(32)
    ack, ack_digest = opened(packets[1][1][1:], publics["agent"], "bz/1 syn ack;")
    assert ack.take(32) == syn_digest and (ack.number(2), ack.number(2)) == (1, 1)
    agent_ephemeral = ack.take(65)
    session = labelled("bz/1 session;", syn_digest, ack_digest)
    assert session.hex() == told["session"]
    secret = private(bytes.fromhex(told["clientEphemeralSeed"]))
    assert point(secret.public_key()) == client_ephemeral
    shared = secret.exchange(ec.ECDH(), public(agent_ephemeral))
    assert shared.hex() == told["shared"]
    keys = hmac.digest(session, shared, "sha256")
    ends = {who: End(session, keys, told["mode"], who) for who in ("client", "agent")}
    resume_key, fields, last = expand(keys, f"bz/1 {told['mode']} resume"), {}, []
    for who, packet in packets[2:]:
        kind, body = KINDS[packet[0]], packet[1:]
        peer = ends["agent" if who == "client" else "client"]
        if kind in ("Data", "DataAck"):
            last.append((who, ends[who].take(body, peer, session, publics[who])))
        elif kind == "Control":
            content = Reader(ends[who].open(ends[who].control, body, 8))
            assert content.number(8) <= peer.number
        else:
            if kind == "Resume":
                assert body[:32] == session
                body = body[32:]
                fields["first"] = body[:48]
                step, content = b"client", body[:48]
            elif kind == "ResumeAck":
                step, content = b"agent", fields["first"] + body[8:48]
                fields["both"] = content
            else:
                step, content = b"done", fields["both"]
            message = b"bz/1 resume " + step + b"\0" + session + content
            assert hmac.digest(resume_key, message, "sha256") == body[-32:], kind
    for who in ends:
        assert [kind for sender, kind in last if sender == who][-2:] == [8, 3], "the end is signed"
    yield f"{name}: {len(packets)} packets"


def main():
    checks = [check_objects(), check_proofs(), check_packets(), check_session("inspected"), check_session("sealed")]
    try:
        for check in checks:
            for name in check:
                print(f"ok {name}")
    except (AssertionError, InvalidSignature, InvalidTag) as error:
        raise SystemExit(f"wrong after the last ok: {error!r}") from error


if __name__ == "__main__":
    main()
