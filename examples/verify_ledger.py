#!/usr/bin/env python3
"""Verifies a countersign ledger export without any code of countersign. Python 3.8 or later, nothing else.

    verify_ledger.py EXPORT VERIFIER-KEY [REMEMBERED-CHECKPOINT-FILE]

Exit status 0: exactly the signed entries, in order. 1: not so, and which entry is the first bad one.
docs/ledger.md describes the format.
"""
import base64
import hashlib
import json
import sys


def members(pairs):
    require(len(dict(pairs)) == len(pairs), "a line says a member twice")
    return dict(pairs)


def require(condition, otherwise):  # not `assert`, which `python -O` leaves out
    if not condition:
        raise ValueError(otherwise)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def root_of(edge):  # the complete subtrees of an RFC 6962 tree, largest first
    root = edge[-1] if edge else sha256()
    for left in reversed(edge[:-1]):
        root = sha256(b"\1", left, root)
    return root


class Key:  # NAME+HASH+BASE64(1, public key)
    def __init__(self, vkey):
        self.name, key_id, encoded = vkey.split("+", 2)
        typed = base64.b64decode(encoded, validate=True)
        self.id = sha256(self.name.encode(), b"\n", typed)[:4]
        require(typed[0] == 1 and len(typed) == 33 and self.id.hex() == key_id, "not a verifier key")
        self.public = typed[1:]

    def signed(self, text, encoded):  # BASE64(key id, signature)
        try:
            blob = base64.b64decode(encoded, validate=True)
            return blob[:4] == self.id and ed25519_verify(self.public, text.encode(), blob[4:])
        except ValueError:
            return False

    def text(self, size, root):
        return "%s\n%d\n%s\n" % (self.name, size, base64.b64encode(root).decode())

    def open(self, note):  # a checkpoint: its size and root
        text, lines = note.rsplit("\n\n", 1)
        own = [line.split(" ")[2] for line in lines.splitlines() if line.startswith("— %s " % self.name)]
        own = [blob for blob in own if base64.b64decode(blob)[:4] == self.id]
        require(own and all(self.signed(text + "\n", blob) for blob in own), "checkpoint is not signed by this key")
        origin, size, root = text.split("\n")[:3]
        require(origin == self.name, "checkpoint of another log")
        return int(size), base64.b64decode(root, validate=True)


def verify(export, key, remembered):
    edge, roots, signatures, problem, size = [], [sha256()], [], None, None
    try:
        header = json.loads(export.readline(), object_pairs_hook=members)
        require(set(header) == {"countersign_ledger", "vkey"} and header["countersign_ledger"] == 1, "not an export")
        for raw in export:
            line, at = json.loads(raw, object_pairs_hook=members), len(signatures)
            require(raw.endswith(b"\n") and size is None, "broken line, or something after the checkpoint")
            if set(line) == {"checkpoint"}:
                size, root = key.open(line["checkpoint"])
                require(size == at, "%d entries, but the checkpoint covers %d" % (at, size))
                require(root == roots[at], "the entries do not have the signed root")
                continue
            require(set(line) - {"sig"} == {"seq", "entry", "leaf"}, "a line with other members than an entry's")
            require(isinstance(line.get("sig", ""), (str, type(None))), "a signature that is no text")
            leaf = sha256(b"\0", line["entry"].encode())
            entry = json.loads(line["entry"])
            require(line["seq"] == entry["seq"] == at, "an entry at another's place")
            require(entry["v"] == 2, "an entry of another format version")
            require(line["leaf"] == leaf.hex(), "text and leaf hash differ")
            size_before = at
            while size_before & 1:  # one subtree merges for each trailing 1 bit
                leaf, size_before = sha256(b"\1", edge.pop(), leaf), size_before >> 1
            edge.append(leaf)
            roots.append(root_of(edge))
            signatures.append(line.get("sig"))
        require(size is not None, "no checkpoint at the end")
    except Exception as error:
        problem = str(error) or type(error).__name__
    if problem:  # it is after the last signature over the entries up to it, and not after the next signature
        signed = [at for at, signature in enumerate(signatures) if signature]
        low, high = 0, len(signed)
        while low < high:
            middle = (low + high) // 2
            at = signed[middle]
            low, high = (middle + 1, high) if key.signed(key.text(at + 1, roots[at + 1]), signatures[at]) else (low, middle)
        first, last = signed[low - 1] + 1 if low else 0, signed[low] if low < len(signed) else len(signatures)
        return "FAILED, first bad entry %s: %s" % (first if first == last else "%d to %d" % (first, last), problem), 1
    if remembered and (remembered[0] > size or roots[remembered[0]] != remembered[1]):
        return "FAILED: this is not a continuation of the remembered checkpoint of %d entries" % remembered[0], 1
    return "OK: %d entries of %s, root %s" % (size, key.name, roots[size].hex()), 0


# Ed25519 (RFC 8032), for checking only.
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def add(a, b):  # extended coordinates
    x = (a[1] - a[0]) * (b[1] - b[0]) % P
    y = (a[1] + a[0]) * (b[1] + b[0]) % P
    t, z = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = y - x, z - t, z + t, y + x
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(scalar, point):
    result = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point, scalar = add(point, point), scalar >> 1
    return result


def point(encoded):
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    require(y < P and (x * x - square) % P == 0 and (x or not sign), "not a point")
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def ed25519_verify(public, message, signature):
    s = int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    base = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
    a, b = multiply(s, base), add(point(signature[:32]), multiply(k, point(public)))
    return (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    remembered = None
    try:
        key = Key(sys.argv[2])
        if len(sys.argv) == 4:
            with open(sys.argv[3], encoding="utf-8") as note:
                remembered = key.open(note.read())
    except (OSError, ValueError) as error:
        sys.exit("FAILED: %s" % error)
    with open(sys.argv[1], "rb") as export:
        message, status = verify(export, key, remembered)
    print(message)
    sys.exit(status)


if __name__ == "__main__":
    main()
