#!/usr/bin/env bash
# torch 2.13.0: a moving average of a model with its buffers changes index tables, at some decays and not at others.
#
# `AveragedModel(..., use_buffers=True)` with PyTorch's own exponential average also averages buffers of whole numbers:
# BERT's positions, or Swin's table of relative positions. These never change in training, so their average is known.
# It is computed as p * decay + p * (1 - decay) in float32 and cut to a whole number. Where rounding ends just below p,
# p - 1 is stored. So tokens share a position, and windows look up the bias of another offset. At 0.99 and 0.999, all
# numbers come out right, so a test passes there. At 0.9, 0.9995 and 0.9999 they do not. Nothing warns.
# `get_ema_avg_fn` rounds alike. With `use_buffers=False` the buffers are copied.
#
# Seen with untrained models of transformers 5.24.0 that do not change at all, averaged three times.
#
# Output seen (Python 3.11, Linux):
#     decay 0.99: BERT 0 of 512 positions changed, output changed: False
#     decay 0.999: BERT 0 of 512 positions changed, output changed: False
#     decay 0.9995: BERT 160 of 512 positions changed, output changed: True
#     decay 0.9999: BERT 99 of 512 positions changed, output changed: True
#     decay 0.99: Swin 0 of 2401 offsets changed, output changed: False
#     decay 0.999: Swin 0 of 2401 offsets changed, output changed: False
#     decay 0.9995: Swin 782 of 2401 offsets changed, output changed: True
#     decay 0.9999: Swin 375 of 2401 offsets changed, output changed: True
#
# orderdp's trainer averages with timm, which copies whole numbers. The page on training loops averages buffers at 0.999,
# says what other decays do, and copies whole numbers after each average.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 transformers==5.24.0
cat > "$folder/average.py" <<'PYTHON'
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import BertConfig, BertModel, SwinConfig, SwinModel

torch.set_num_threads(1)
torch.manual_seed(0)
SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 60}
bert = BertModel(BertConfig(**SMALL)).eval()
swin = SwinModel(SwinConfig(image_size=28, patch_size=4, embed_dim=16, depths=[1], num_heads=[2], window_size=7)).eval()
for name, table in swin.named_parameters():
    if name.endswith("relative_position_bias_table"):  # begins as zeros, which training changes
        torch.nn.init.normal_(table)
INPUTS = {bert: torch.arange(60)[None], swin: torch.randn(1, 3, 28, 28)}


def averaged(model, decay):
    """Returns how many numbers of the table changed, how many it has, and whether the output changed."""
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    for _ in range(3):
        average.update_parameters(model)
    tables = dict(model.named_buffers())
    name = next(name for name in tables if name.endswith(("position_ids", "relative_position_index")))
    changed = (average.module.get_buffer(name) != tables[name]).sum().item()
    with torch.no_grad():
        before, after = model(INPUTS[model])[0], average(INPUTS[model])[0]
    return changed, tables[name].numel(), not torch.allclose(before, after, atol=1e-4)


for model, what in ((bert, "BERT {} of {} positions"), (swin, "Swin {} of {} offsets")):
    for decay in (0.99, 0.999, 0.9995, 0.9999):
        changed, of, differs = averaged(model, decay)
        print(f"decay {decay}: {what.format(changed, of)} changed, output changed: {differs}")
        wrong = decay > 0.999
        assert (changed > 50) == differs == wrong and (wrong or changed == 0), "torch averages otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/average.py" 2>/dev/null
