"""Evidence of made-up proxies for tests: small, seeded, with every field."""

import numpy as np

from orderdp.coresets import Evidence


def softmax(logits):
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def make_evidence(num_samples=60, num_classes=3, num_features=5, epochs=4, *, seed=0, validation=True):
    """Evidence with every field: features around a mean for each class, and probabilities of a linear classifier."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(num_classes), rng.integers(num_classes, size=num_samples - num_classes)])
    means = 2 * rng.standard_normal((num_classes, num_features))
    features = (means[labels] + rng.standard_normal((num_samples, num_features))).astype(np.float32)
    weight = means.T + 0.3 * rng.standard_normal((num_features, num_classes))
    trajectory = np.stack([softmax(features @ weight * t / epochs) for t in range(1, epochs + 1)]).astype(np.float32)
    return Evidence(
        labels=labels,
        probabilities=trajectory[-1],
        features=features,
        gradient_norms=rng.gamma(2.0, size=num_samples).astype(np.float32),
        perturbations=rng.gamma(2.0, size=num_samples).astype(np.float32),
        presented=trajectory.argmax(-1) == labels,
        trajectory=trajectory,
        alignments=rng.standard_normal((epochs, num_samples)).astype(np.float32),
        learning_rates=np.linspace(0.1, 0.01, epochs),
        scores=rng.standard_normal(num_samples),
        validation=make_evidence(30, num_classes, num_features, epochs, seed=seed + 1, validation=False)
        if validation
        else None,
    )
