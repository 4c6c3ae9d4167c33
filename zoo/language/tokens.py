"""Byte-pair tokens: learnt from texts, and read from a file that a stranger may have written.

Source: Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units", ACL 2016; over
bytes as in GPT-2. The library ``tokenizers`` learns and applies them (the extra ``language``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError

from wire import BadInput
from wire.files import read_bytes

END = 0  # the token that begins and ends each text
END_NAME = "<|endoftext|>"
MOST_BYTES = 4 * 2**20  # of a file of tokens
MOST_TOKENS = 2**17


class _Bpe(BaseModel):
    vocab: dict[str, int]
    merges: list[tuple[str, str]]


class _File(BaseModel):
    model: _Bpe


class Tokens:
    """A byte-pair vocabulary.

    Attributes:
        longest: Most bytes of a token's text.
    """

    def __init__(self, vocab: dict[str, int], merges: Sequence[tuple[str, str]]) -> None:
        """Takes the tokens, each a string of byte symbols, and the pairs that are merged, first ones first.

        Raises:
            ValueError: They do not form a vocabulary.
        """
        tokenizers = _library()
        ids = sorted(vocab.values())
        if vocab.get(END_NAME) != END or len(ids) > MOST_TOKENS or ids != list(range(len(ids))):
            raise ValueError(f"the tokens must be numbered 0, 1, ..., with {END_NAME} the first")
        try:
            model = tokenizers.models.BPE(vocab, list(merges))
        except Exception as error:  # the library has no class of its own
            raise ValueError(f"the pairs do not merge to tokens: {error}") from None
        self._tokenizer = _pipeline(model)
        self._tokenizer.add_special_tokens([END_NAME])
        self._tokenizer.encode_special_tokens = True  # in a text, its name is text
        self._bytes = [b""] * len(vocab)
        for token, number in vocab.items():
            if number != END:
                try:
                    self._bytes[number] = bytes(_BYTES[symbol] for symbol in token)
                except KeyError:
                    raise ValueError(f"token {number}, {token!r}, has symbols that stand for no byte") from None

        self.longest = max(map(len, self._bytes))

    def __len__(self) -> int:
        return len(self._bytes)

    @classmethod
    def learnt(cls, texts: Iterable[str], size: int) -> Tokens:
        """Learns at most ``size`` tokens from texts.

        Raises:
            BadInput: They are fewer than the bytes, with :data:`END`.
        """
        if not len(_BYTES) < size <= MOST_TOKENS:
            raise BadInput(f"a vocabulary has from {len(_BYTES) + 1} to {MOST_TOKENS} tokens, not {size}")
        tokenizers = _library()
        tokenizer = _pipeline(tokenizers.models.BPE())
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=size, special_tokens=[END_NAME], initial_alphabet=sorted(_BYTES), show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls.read(tokenizer.to_str().encode())

    @classmethod
    def read(cls, content: bytes) -> Tokens:
        """Reads the form in which the library writes them; of the file, only tokens and merges are used.

        Raises:
            ValueError: It is another form.
        """
        try:
            bpe = _File.model_validate_json(content).model
        except ValidationError as error:
            fault = error.errors()[0]
            raise ValueError(f'"{".".join(map(str, fault["loc"]))}": {fault["msg"]}') from None
        return cls(bpe.vocab, bpe.merges)

    def written(self) -> bytes:
        """Returns the content of a file of them."""
        return orjson.dumps(orjson.loads(self._tokenizer.to_str()), option=orjson.OPT_INDENT_2) + b"\n"

    def encode(self, text: str) -> list[int]:
        """Returns the tokens of a text."""
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def bytes_of(self, ids: Iterable[int]) -> bytes:
        """Returns the bytes of tokens; a token may end within a character."""
        return b"".join([self._bytes[number] for number in ids])

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of tokens."""
        return self.bytes_of(ids).decode(errors="replace")

    def name(self, number: int) -> str:
        """Returns a token's own text, or its bytes where these are not a text."""
        found = self._bytes[number]
        try:
            return found.decode() if number != END else END_NAME
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in found)


def read_tokens(path: Path) -> Tokens:
    """Reads the ``tokenizer.json`` of a model's folder, or raises :class:`~wire.BadInput`."""
    try:
        return Tokens.read(read_bytes(path, MOST_BYTES))
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; expected a tokenizer.json") from None
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(f"{path}: not a file of tokens: {error}") from None


def _library() -> Any:
    try:
        import tokenizers  # deferred: an extra
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError:
        raise BadInput("language models need the extra language: pip install 'mlaas-range[language]'") from None
    return tokenizers


def _pipeline(model: Any) -> Any:
    tokenizers = _library()
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return tokenizer


def _symbols() -> dict[str, int]:
    """Returns GPT-2's symbols of bytes: a printable one stands for itself, others for symbols from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _symbols()
