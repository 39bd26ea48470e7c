#!/usr/bin/env bash
# sentence-transformers 6.2.0: with the batch sampler "no_duplicates", an epoch leaves rows out, most of common values.
#
# The sampler puts no value twice into a batch, and its documentation recommends it for losses with negatives of the
# batch. A batch with fewer free values than places stays small, so the rows need more batches than `len` says. Nothing
# follows that number: the trainer ends the epoch after `len` batches, and so does the sampler for several data sets,
# "proportional". Its documentation says that all samples of each data set are used. In pairs of a text and its topic, a
# batch has each topic once at most. So the rows left behind are those of the common topics, and each epoch trains all
# topics alike. The batches are smaller than asked too, and so the negatives are fewer. More epochs do not change the
# shares. The trainer's report counts all rows as trained, and nothing warns.
#
# Output seen (Python 3.11, Linux), 600 texts of 10 topics, of which one has 168 texts and each other 48:
#     batch_sampler: batches of 16, trained 168 of the common topic and 432 of the others
#     no_duplicates: batches of 10, trained 38 of the common topic and 342 of the others
#     no_duplicates, 4 epochs: batches of 10, trained 152 of the common topic and 1368 of the others
#     no_duplicates, proportional with 600 answers: batches of 10, trained 38 of the common topic and 342 of the others
#
# An epoch of orderdp trains exactly the samples that its method chose.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 accelerate==1.15.0 datasets==5.2.0 transformers==5.24.0 \
    sentence-transformers==6.2.0
cat > "$folder/topics.py" <<'PYTHON'
import sys

from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers

COMMON, OTHER = 168, 48
TOPICS = ["topic0"] * COMMON + [f"topic{number}" for number in range(1, 10) for _ in range(OTHER)]
NUM_ROWS = len(TOPICS)

# Each text is one word, so that a row is known by the number of its word.
texts = [f"text{row}" for row in range(NUM_ROWS)]
questions, answers = ([f"{name}{row}" for row in range(NUM_ROWS)] for name in ("question", "answer"))
words = [*texts, *sorted(set(TOPICS)), *questions, *answers, "?"]
tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="?"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
topics = Dataset.from_dict({"text": texts, "topic": TOPICS})
both = {"topics": topics, "answers": Dataset.from_dict({"question": questions, "answer": answers})}


class RecordedLoss(MultipleNegativesRankingLoss):
    """Notes the rows of each batch that is trained."""

    def forward(self, sentence_features, labels):
        batches.append(sentence_features[0]["input_ids"].tolist())
        return super().forward(sentence_features, labels)


for name, train_set, settings in (
    ("batch_sampler", topics, {"batch_sampler": "batch_sampler"}),
    ("no_duplicates", topics, {"batch_sampler": "no_duplicates"}),
    ("no_duplicates, 4 epochs", topics, {"batch_sampler": "no_duplicates", "num_train_epochs": 4}),
    ("no_duplicates, proportional with 600 answers", both, {"batch_sampler": "no_duplicates"}),
):
    batches = []
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")
    arguments = SentenceTransformerTrainingArguments(
        sys.argv[1],
        **{"num_train_epochs": 1, **settings},
        per_device_train_batch_size=16,
        multi_dataset_batch_sampler="proportional",
        save_strategy="no",
        report_to="none",
        use_cpu=True,
    )
    SentenceTransformerTrainer(model, arguments, train_dataset=train_set, loss=RecordedLoss(model)).train()
    epochs = int(arguments.num_train_epochs)
    of_topics = [batch for batch in batches if max(batch) < NUM_ROWS]
    common = sum(row < COMMON for batch in of_topics for row in batch)
    others = sum(len(batch) for batch in of_topics) - common
    size = max(len(batch) for batch in of_topics)
    print(f"{name}: batches of {size}, trained {common} of the common topic and {others} of the others")
    whole = (size, common, others) == (16, COMMON, NUM_ROWS - COMMON)
    left_out = size == 10 and common < 0.3 * epochs * COMMON and others < 0.9 * epochs * (NUM_ROWS - COMMON)
    assert whole if name == "batch_sampler" else left_out, "sentence-transformers behaves otherwise now"
PYTHON
OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/topics.py" "$folder" 2>/dev/null | grep -v "^{"
