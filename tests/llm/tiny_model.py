"""A language model of random numbers in a GGUF file: real inference in milliseconds, and nothing to download.

It speaks in made-up words and never stops by itself, so that every reply is as long as it was asked to be. Two
things make that so. Channel 0 of the residual stream starts as a constant and no layer writes to it; the output
matrix reads it to push the tokens that are not words, the end of text among them, out of reach. And the words
are syllables, so that what is said is valid text.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHAPES = {  # width, layers, heads, feed-forward width
    "nano": (64, 2, 2, 128),  # 0.7 MB, about 0.3 ms a token
    "tiny": (256, 4, 4, 768),  # 9 MB
}
CONTEXT = 4096
CONSTANT = 8.0  # what channel 0 starts as
OUT_OF_REACH = -30.0  # a logit that is never picked beside words around 0
SPECIAL = ("<unk>", "<s>", "</s>")


def write_model(path: Path, shape: str = "nano", seed: int = 1) -> Path:
    """Write the model to `path` and return it."""
    import gguf

    width, layers, heads, inner = SHAPES[shape]
    tokens, scores, kinds = vocabulary(gguf.TokenType)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name(f"random-{shape}")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_rope_dimension_count(width // heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(1)  # mostly half precision
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_chat_template(
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
    )
    is_word = [
        len(token) > 1 and kind == gguf.TokenType.NORMAL for token, kind in zip(tokens, kinds, strict=True)
    ]
    for name, values in tensors(np.random.default_rng(seed), width, layers, inner, np.array(is_word)):
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def vocabulary(kinds: Any) -> tuple[list[str], list[float], list[int]]:
    """Tokens, scores and kinds: the special ones, all bytes, printable characters, and words of syllables."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]
    pairs = [first + second for first in syllables for second in syllables[::4]]
    space = "\u2581"
    characters = [space, *map(chr, range(33, 127))]
    words = [space + word for word in (*syllables, *pairs)]
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *characters, *words]
    kind = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL]
    kind += [kinds.BYTE] * 256 + [kinds.NORMAL] * (len(characters) + len(words))
    score = [0.0] * (3 + 256) + [-1e4] * len(characters) + [-float(i) for i in range(len(words))]
    return tokens, score, kind


def tensors(
    rng: np.random.Generator, width: int, layers: int, inner: int, is_word: NDArray[np.bool_]
) -> list[tuple[str, NDArray[Any]]]:
    """The weights by their names in the file."""

    def random(rows: int, columns: int, scale: float) -> NDArray[np.float32]:
        return (scale * rng.standard_normal((rows, columns))).astype(np.float32)

    ones = np.ones(width, np.float32)
    embedding = random(len(is_word), width, 1.0)
    embedding[:, 0] = CONSTANT
    named: list[tuple[str, NDArray[Any]]] = [("token_embd.weight", embedding.astype(np.float16))]
    for layer in range(layers):
        into_stream = {
            "attn_output": random(width, width, 0.3 / math.sqrt(width)),
            "ffn_down": random(width, inner, 0.3 / math.sqrt(inner)),
        }
        for matrix in into_stream.values():
            matrix[0, :] = 0.0
        matrices = into_stream | {
            "attn_q": random(width, width, 1 / math.sqrt(width)),
            "attn_k": random(width, width, 1 / math.sqrt(width)),
            "attn_v": random(width, width, 1 / math.sqrt(width)),
            "ffn_gate": random(inner, width, 1 / math.sqrt(width)),
            "ffn_up": random(inner, width, 1 / math.sqrt(width)),
        }
        named += [(f"blk.{layer}.{name}.weight", m.astype(np.float16)) for name, m in matrices.items()]
        named += [(f"blk.{layer}.{name}.weight", ones) for name in ("attn_norm", "ffn_norm")]
    constant = CONSTANT / math.sqrt(
        (CONSTANT**2 + 1.4 * (width - 1)) / width
    )  # about what the last norm leaves
    output = random(len(is_word), width, 1 / math.sqrt(width))
    output[:, 0] = np.where(is_word, 0.0, OUT_OF_REACH / constant)
    return [*named, ("output_norm.weight", ones), ("output.weight", output.astype(np.float16))]
