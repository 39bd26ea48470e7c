#!/usr/bin/env bash
# torch 2.13.0: FlopCounterMode counts 0 for a transformer layer in evaluation, and for attention on a processor.
#
# The counter knows the operators that a model is made of: matrix products, convolutions, the attention kernels of a
# GPU. Without gradient, an encoder layer or MultiheadAttention in evaluation mode runs as one fused operator, which the
# counter does not know. So the same forward pass costs 353,280 in training and nothing as a validation or scoring pass.
# On a processor, scaled_dot_product_attention is one such operator too, with or without gradient, so the part of a
# model that grows with the square of the length is missing. So is a whole LSTM, though a GRU is counted. There is no
# warning about operators without a formula, and the table per module shows no gap.
#
# Output seen (Python 3.11, Linux), 2 sequences of 10 tokens, 32 features:
#     encoder layer, train(), with gradient: 353280
#     encoder layer, eval(), with gradient: 327680
#     encoder layer, eval(), without gradient: 0
#     attention by two products: 25600
#     attention by scaled_dot_product_attention: 0
#     GRU: 245760
#     LSTM: 0
#
# orderdp counts samples and passes, no FLOPs, so a scoring pass is never free.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
cat > "$folder/flops.py" <<'PYTHON'
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

torch.set_num_threads(1)
x = torch.randn(2, 10, 32)
q = torch.randn(2, 4, 10, 8)
layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)


def by_products():
    return (q @ q.mT / 8**0.5).softmax(-1) @ q


def flops(function, gradient=True):
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(gradient):
        function()
    return counter.get_total_flops()


seen = {
    "encoder layer, train(), with gradient": flops(lambda: layer.train()(x)),
    "encoder layer, eval(), with gradient": flops(lambda: layer.eval()(x)),
    "encoder layer, eval(), without gradient": flops(lambda: layer.eval()(x), gradient=False),
    "attention by two products": flops(by_products),
    "attention by scaled_dot_product_attention": flops(lambda: functional.scaled_dot_product_attention(q, q, q)),
    "GRU": flops(lambda: nn.GRU(32, 32)(x)),
    "LSTM": flops(lambda: nn.LSTM(32, 32)(x)),
}
for what, count in seen.items():
    print(f"{what}: {count}")
same = torch.allclose(by_products(), functional.scaled_dot_product_attention(q, q, q), atol=1e-5)
assert same, "the two ways to attention are not the same function"
train, evaluation, scoring, products, attention, gru, lstm = seen.values()
assert train > 300_000 and evaluation > 300_000 and products == 25_600 and gru == 245_760, "torch counts otherwise now"
assert scoring == attention == lstm == 0, "torch counts otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/flops.py" 2>/dev/null
