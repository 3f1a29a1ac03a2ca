"""Accuracy on digits beside scikit-learn's classifiers, all on the same split.

`python -m bench.digits RUN...` prints a table of the classifiers, trained on our training split
with their default parameters, and of the given run folders.
"""

import json
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from zoo.data import Digits

CLASSIFIERS = {
    "SVC": SVC(),
    "random forest": RandomForestClassifier(random_state=0),
    "decision tree": DecisionTreeClassifier(random_state=0),
}


def main(folders: list[str]) -> None:
    """Fits, measures and prints."""
    splits = Digits(view="features").open().splits
    train, test = (splits[name].rows(np.arange(len(splits[name]))) for name in ("train", "test"))
    table = Table("classifier", "test accuracy")
    for name, classifier in CLASSIFIERS.items():
        classifier.fit(train["features"], train["label"])
        accuracy = classifier.score(test["features"], test["label"])
        table.add_row(f"scikit-learn {name}", f"{accuracy:.4f}")
    for folder in folders:
        result = json.loads((Path(folder) / "result.json").read_text())
        table.add_row(folder, f"{result['metrics']['accuracy']:.4f}")
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
