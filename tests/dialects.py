"""Small chat templates in the manner of well-known model families, with their special tokens, and tokenizers for them.

Each writes what matters for tokens: how a turn ends, what is trimmed, where thoughts and tool calls go.
"""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

import tiny

_CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# Empty thoughts before an answer without any, in the last turn alone. Thoughts of earlier turns are left out.
_QWEN3 = (
    "{%- if tools %}{{- '<|im_start|>system\\n' }}"
    "{%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}"
    "{{- '# Tools' }}{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}{{- '<|im_end|>\\n' }}"
    "{%- elif messages[0].role == 'system' %}"
    "{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{%- endif %}"
    "{%- set ns = namespace(last=0) %}"
    "{%- for m in messages %}{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
    "{%- for m in messages %}{%- set content = m.content if m.content is string else '' %}"
    "{%- if m.role == 'user' or (m.role == 'system' and not loop.first) %}"
    "{{- '<|im_start|>' + m.role + '\\n' + content + '<|im_end|>\\n' }}"
    "{%- elif m.role == 'assistant' %}{%- set thoughts = '' %}"
    "{%- if m.reasoning_content is string %}{%- set thoughts = m.reasoning_content %}"
    "{%- elif '</think>' in content %}"
    "{%- set thoughts = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}"
    "{{- '<|im_start|>assistant\\n' }}"
    "{%- if loop.index0 > ns.last and (loop.last or thoughts) %}"
    "{{- '<think>\\n' + thoughts.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}"
    "{%- else %}{{- content }}{%- endif %}"
    "{%- for call in m.tool_calls or [] %}{%- if (loop.first and content) or not loop.first %}{{- '\\n' }}{%- endif %}"
    '{{- \'<tool_call>\\n{"name": "\' + call.function.name + \'", "arguments": \' }}'
    "{{- call.function.arguments | tojson }}{{- '}\\n</tool_call>' }}{%- endfor %}{{- '<|im_end|>\\n' }}"
    "{%- elif m.role == 'tool' %}"
    "{{- '<|im_start|>user\\n<tool_response>\\n' + content + '\\n</tool_response><|im_end|>\\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}"
)
_LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
_GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% set role = 'model' if m.role == 'assistant' else m.role %}"
    "{{ '<start_of_turn>' + role + '\\n' + m.content | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
_MISTRAL = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
# A prompt ends with open thoughts. An answer is written without its thoughts.
_R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '<|User|>' + m.content }}"
    "{% elif m.role == 'assistant' %}{% set content = m.content or '' %}"
    "{% for call in m.tool_calls or [] %}{{ '<|Call|>' + call.function.name + call.function.arguments }}{% endfor %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{ '<|Assistant|>' + content + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\\n' }}{% endif %}"
)
# The last turn ends with the end of a turn and the end of the text.
_PHI = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)
# Only words: no token ends a turn.
_WORDS = (
    "{% for m in messages %}{{ m.role | upper + ': ' + m.content + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)

_TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
DIALECTS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], bool, str]] = {
    # template, special tokens, plain added tokens, BOS, the end of a turn
    "chatml": (_CHATML, ("<|im_start|>", "<|im_end|>"), (), False, "<|im_end|>"),
    "qwen3": (_QWEN3, ("<|im_start|>", "<|im_end|>"), _TAGS, False, "<|im_end|>"),
    "llama3": (_LLAMA3, ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), (), True, "<|eot_id|>"),
    "gemma": (_GEMMA, ("<start_of_turn>", "<end_of_turn>"), (), True, "<end_of_turn>"),
    "mistral": (_MISTRAL, (), (), True, tiny.EOS),
    "r1": (_R1, (), ("<|User|>", "<|Assistant|>", "<|Call|>", "<think>", "</think>"), True, tiny.EOS),
    "phi": (_PHI, ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>"), (), False, "<|end|>"),
    "words": (_WORDS, (), (), False, tiny.EOS),
}


def tokenizer(dialect: str) -> PreTrainedTokenizerFast:
    """A tiny tokenizer that speaks a dialect. Its EOS, <|endoftext|>, ends documents."""
    template, special, plain, adds_bos, _ = DIALECTS[dialect]
    made = tiny.tokenizer(adds_bos=adds_bos, extra=special)
    made.add_tokens(list(plain))
    made.chat_template = template
    return made
