"""The frame codec, against bytes written out by hand."""

import random

import pytest

from effect_ray_gateway import frames
from effect_ray_gateway.credit import Window
from support.client import pack

IDENT = bytes(range(24))


def cut(data, step):
    """Feeds `data` in pieces; answers the frames that came out."""
    out, splitter = [], frames.Splitter()
    for at in range(0, len(data), step):
        splitter.feed(data[at : at + step], lambda *found: out.append(found))
    return out


def test_the_header_is_44_bytes_big_endian():
    data = frames.frame(frames.RUN, b"ab", frames.MORE, 7, 1 << 48 | 2, IDENT)
    assert data == bytes.fromhex("00000002" "01" "0a" "0001" "00000007" "0001000000000002") + IDENT + b"ab"
    assert frames.HEADER_BYTES == 44


@pytest.mark.parametrize("step", [1, 7, 44, 100, 10_000])
def test_frames_survive_any_cut_of_the_stream(step):
    sent = [pack("RUN", bytes(size), route=size, call=size) for size in (0, 1, 300, 44, 0)]
    assert [(found[2], found[4]) for found in cut(b"".join(sent), step)] == list(zip((0, 1, 300, 44, 0), sent))


def test_a_frame_over_the_limit_or_of_another_version_is_refused():
    with pytest.raises(frames.ProtocolError, match="262145"):
        cut(pack("RUN", bytes(262_145))[:44], 44)
    with pytest.raises(frames.ProtocolError, match="version 2"):
        cut(pack("RUN", version=2), 44)
    assert len(cut(pack("RUN", bytes(262_144)), 65536)) == 1


def test_random_bytes_never_do_more_than_refuse():
    source = random.Random(1)
    for _ in range(200):
        data = source.randbytes(source.randrange(200))
        try:
            cut(data, 13)
        except frames.ProtocolError:
            continue


def test_chunks_are_put_together_by_call():
    body = random.Random(2).randbytes(700_000)
    chunks = frames.chunked(frames.RESULT, body, 2 << 8, 3, 9, IDENT)
    assert [frames.HEAD.unpack_from(chunk)[3] for chunk in chunks] == [2 << 8 | 1, 2 << 8 | 1, 2 << 8]
    assembler = frames.Assembler()
    assert assembler.add(1, 9, chunks[0], 1 << 20) is None
    other = frames.frame(frames.RESULT, b"x", 0, 3, 10, IDENT)
    assert assembler.add(0, 10, other, 1 << 20) == other
    assert assembler.add(1, 9, chunks[1], 1 << 20) is None
    assert assembler.holds(9)
    assert assembler.add(0, 9, chunks[2], 1 << 20) == b"".join(chunks)
    assert not assembler.holds(9)


def test_what_is_put_together_is_bounded():
    chunks = frames.chunked(frames.RUN, bytes(300_000), 0, 3, 9, IDENT)
    assembler = frames.Assembler()
    assembler.add(1, 9, chunks[0], 299_999)
    with pytest.raises(frames.ProtocolError, match="299999"):
        assembler.add(0, 9, chunks[1], 299_999)


def test_credit_and_acknowledgements_are_packed():
    assert frames.read_credit(frames.credit_frame(3, 4)) == (3, 4)
    assert frames.read_ack(frames.ack_frame([1, 1 << 63])) == (1, 1 << 63)
    with pytest.raises(frames.ProtocolError):
        frames.read_ack(pack("ACK", b"1234567"))
    with pytest.raises(frames.ProtocolError):
        frames.read_credit(pack("CREDIT", b"1234567"))


def test_credit_goes_back_by_quarters():
    window = Window(8, 1000, 0)
    for _ in range(8):
        window.take(100)
    with pytest.raises(frames.ProtocolError, match="more than 8 frames without credit"):
        window.take(0)
    window = Window(8, 1000, 0)
    for _ in range(8):
        window.take(100)
    assert window.repay(1, 10) is None
    assert frames.read_credit(window.repay(1, 10)) == (2, 20)
    window.take(0)
    assert frames.read_credit(window.repay(1, 300)) == (1, 300)


def test_bytes_without_credit_are_refused_but_a_body_that_was_begun_may_end():
    window = Window(8, 1000, 500)
    window.take(999)
    window.take(501)
    with pytest.raises(frames.ProtocolError, match="more than 1500 bytes without credit"):
        window.take(1)
    window = Window(8, 1000, 500)
    window.take(1500)
    assert frames.read_credit(window.repay(1, 1500)) == (1, 1500)
    window.take(1500)
