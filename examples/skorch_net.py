"""A training script with skorch, and the lines that prune it: a net whose training data come from a pruned loader.

Claim: skorch asks a net for its training iterator once a fit, and makes one pass over it in each epoch. So it is enough
to return a pruned loader there, and to hand the loss of each sample to the pruner. `partial_fit` goes on with the same
pruner. Each line that orderdp adds ends in a comment that says so, and the plain line that it replaces stands above it.

    python examples/skorch_net.py        (4 s on one CPU core)

Prints, with torch 2.13 on a CPU:

    epoch 1: 32 steps, loss 0.63
    epoch 2: 32 steps, loss 0.45
    epoch 3: 32 steps, loss 0.39
    epoch 4: 32 steps, loss 0.41
    accuracy 87.1 %
"""

from typing import Any  # orderdp

import torch
import torch.nn.functional as F  # orderdp
from skorch import NeuralNetClassifier
from torch import nn

import orderdp  # orderdp


class PrunedNet(NeuralNetClassifier):  # orderdp
    """Trains each epoch on the samples that a pruner selects."""  # orderdp

    def initialize(self) -> Any:  # orderdp
        """Begins anew, as each `fit` does; `partial_fit` goes on."""  # orderdp
        self.pruner_ = None  # orderdp
        return super().initialize()  # orderdp

    def get_iterator(self, dataset: Any, **how: Any) -> Any:  # orderdp
        """Returns the pruned loader for training, and skorch's iterator otherwise."""  # orderdp
        if not how.get("training"):  # orderdp
            return super().get_iterator(dataset, **how)  # orderdp
        if self.pruner_ is None:  # orderdp
            self.pruner_ = orderdp.Pruner(orderdp.OrderDP(prune_ratio=0.5), len(dataset), seed=0)  # orderdp
        return self.pruner_.loader(dataset, batch_size=self.batch_size)  # orderdp

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:  # orderdp
        """Returns prediction and loss of a batch, after the backward pass."""  # orderdp
        self.module_.train()  # orderdp
        index, (x, y) = batch  # orderdp
        predicted = self.infer(x, **fit_params)  # orderdp
        losses = F.cross_entropy(predicted, y.to(predicted.device), reduction="none")  # orderdp
        loss = self.pruner_.update(index, losses)  # orderdp
        loss.backward()  # orderdp
        return {"loss": loss, "y_pred": predicted}  # orderdp


def main() -> None:
    """Trains four epochs in two calls, and prints the steps and the accuracy on the training data."""
    x, blur = torch.randn(2000, 21, generator=torch.Generator().manual_seed(0)).split([20, 1], dim=1)
    y = (x[:, :5].sum(1) + blur[:, 0] > 0).long()
    torch.manual_seed(0)
    # plain: net = NeuralNetClassifier(
    net = PrunedNet(  # orderdp
        nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 2)),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        lr=0.02,
        batch_size=32,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    net.fit(x, y, epochs=2)
    net.partial_fit(x, y, epochs=2)
    for line in net.history:
        print(f"epoch {line['epoch']}: {line['train_batch_count']} steps, loss {line['train_loss']:.2f}")
    print(f"accuracy {100 * (net.predict(x) == y.numpy()).mean():.1f} %")


if __name__ == "__main__":
    main()
