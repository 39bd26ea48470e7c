#!/usr/bin/env bash
# imbalanced-learn 0.14.2: SMOTE makes noise of images of type uint8, and resampling no longer helps the rare class.
#
# A new sample lies on the line between a sample of the rare class and one of its neighbours. SMOTE takes the difference
# of the two in the type of the data. In uint8, the usual type of images in memory, 3 - 5 is 254. So where the neighbour
# is darker, the new pixel is not between the two. The type and the number of samples are right, and nothing warns.
# BorderlineSMOTE, SVMSMOTE and ADASYN do alike. `images.astype("float32")` before the call avoids it.
#
# Seen with the 1,797 digits of scikit-learn, pixels from 0 to 16. Half of them are for testing. For training, one of
# seven 8s is kept, and SMOTE makes as many as there are of the most frequent digit.
#
# Output seen (Python 3.11, Linux): 8s of the test part that a classifier by 3 neighbours recognises
#     not resampled: 0.29
#     SMOTE in float32: 0.89, largest pixel of the new 8s 16, mean pixel 5.1
#     SMOTE in uint8: 0.29, largest pixel of the new 8s 255, mean pixel 37.9
#     largest pixel in uint8: BorderlineSMOTE 255, SVMSMOTE 255, ADASYN 255
#
# orderdp makes no samples. Its methods change how much a sample counts, never the sample.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q imbalanced-learn==0.14.2 scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6
cat > "$folder/images.py" <<'PYTHON'
import numpy as np
from imblearn.over_sampling import ADASYN, SMOTE, SVMSMOTE, BorderlineSMOTE
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

digits = load_digits()
x, x_test, y, y_test = train_test_split(digits.data, digits.target, test_size=0.5, random_state=0)
eights = np.flatnonzero(y == 8)
kept = np.delete(np.arange(len(y)), eights[np.arange(len(eights)) % 7 > 0])
x, y = x[kept], y[kept]


def recognised(images, labels):
    """Returns the share of the 8s of the test part that a classifier of these samples recognises."""
    found = KNeighborsClassifier(3).fit(images.astype(float), labels).predict(x_test)
    return float((found[y_test == 8] == 8).mean())


plain = recognised(x, y)
print(f"not resampled: {plain:.2f}")
shares, largest = {}, {}
for kind in ("float32", "uint8"):
    images, labels = SMOTE(random_state=0).fit_resample(x.astype(kind), y)
    new = images[len(x) :][labels[len(x) :] == 8]
    assert images.dtype == kind and (labels == 8).sum() == np.bincount(y).max()
    shares[kind], largest[kind] = recognised(images, labels), new.max()
    print(f"SMOTE in {kind}: {shares[kind]:.2f}, largest pixel of the new 8s {new.max():.0f}, mean pixel {new.mean():.1f}")
others = {}
for method in (BorderlineSMOTE, SVMSMOTE, ADASYN):
    images, _ = method(random_state=0, sampling_strategy={8: 80}).fit_resample(x.astype("uint8"), y)
    others[method.__name__] = images.max()
print("largest pixel in uint8:", ", ".join(f"{name} {pixel}" for name, pixel in others.items()))
assert shares["float32"] > plain + 0.4 and largest["float32"] <= 16
assert shares["uint8"] < plain + 0.1 and largest["uint8"] > 200, "imbalanced-learn behaves otherwise now"
assert min(others.values()) > 200, "imbalanced-learn behaves otherwise now"
PYTHON
"$folder/venv/bin/python" "$folder/images.py"
