from __future__ import annotations

from heedful.maths import padding


def test_left_padding_puts_real_tokens_last() -> None:
    ids, mask = padding.left_pad([[5, 6, 7], [8]], pad_id=0)
    assert ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert mask.tolist() == [[True, True, True], [False, False, True]]


def test_right_padding_puts_real_tokens_first() -> None:
    ids, lengths = padding.right_pad([[5, 6, 7], [8], []], pad_id=9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9], [9, 9, 9]]
    assert lengths.tolist() == [3, 1, 0]
