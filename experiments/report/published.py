"""Numbers that the papers and their authors' code report, shown beside those of a run."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """A published number.

    Attributes:
        what: The method.
        result: The number.
        setting: Data, models and sizes.
        source: Where it is reported.
    """

    what: str
    result: str
    setting: str
    source: str


EXTRACTION = (
    Published(
        "jbda",
        "agreement 95.1 %",
        "MNIST, 102,400 queries from 100 seeds in 10 rounds; CNN victim trained on 55,000 images",
        "Juuti et al., PRADA, EuroS&P 2019, authors’ slides",
    ),
    Published(
        "knockoff, all probabilities",
        "accuracy 88.2 % (victim 94.6 %)",
        "CIFAR-10, ResNet-34, 100,000 queries with ImageNet images (another distribution)",
        "Atli et al., EDSMLS 2020, authors’ slides",
    ),
    Published(
        "knockoff, labels only",
        "accuracy 84.4 % (victim 94.6 %)",
        "as above",
        "Atli et al., EDSMLS 2020, authors’ slides",
    ),
    Published(
        "knockoff, all probabilities",
        "accuracy 76.0 % (victim 78.4 %)",
        "Caltech-256, ResNet-34, 60,000 queries with ImageNet images",
        "Orekondy et al., CVPR 2019, checkpoints in the authors’ repository",
    ),
)

MEMBERSHIP = (
    Published(
        "confidence, one threshold for all",
        "AUC 0.592, balanced accuracy 60.4 %, TPR 0.09 % at 0.1 % FPR",
        "CIFAR-10, wide ResNet with about 91 % accuracy",
        "Carlini et al., S&P 2022, reference results in the authors’ repository",
    ),
    Published(
        "LiRA, online, fixed variance",
        "AUC 0.686, balanced accuracy 61.4 %, TPR 5.93 % at 0.1 % FPR",
        "as above, 16 shadow models",
        "Carlini et al., S&P 2022, reference results in the authors’ repository",
    ),
    Published(
        "RMIA, offline, 1 and 4 reference models",
        "AUC 0.686 and 0.710, TPR 1.19 and 2.91 % at 0.01 % FPR",
        "CIFAR-10, half of which trained the victim",
        "Zarifzadeh et al., ICML 2024, table 2",
    ),
)

OWNERSHIP = (
    Published(
        "victim",
        "Δμ 1.823 (p = 1e-42)",
        "CIFAR-10, wide ResNet trained on 50,000 rows",
        "Maini et al., ICLR 2021, tables and authors’ notebooks",
    ),
    Published(
        "stolen, labels only",
        "Δμ 1.006 (p = 1e-4)",
        "as above, 500,000 queries with TinyImages",
        "Maini et al., ICLR 2021, tables and authors’ notebooks",
    ),
    Published(
        "stolen, all probabilities",
        "Δμ 1.048 (p = 1e-4)",
        "as above",
        "Maini et al., ICLR 2021, tables and authors’ notebooks",
    ),
    Published(
        "“independent”",
        "Δμ −0.397 (p = 0.675)",
        "as above, but trained on the comparison set",
        "Maini et al., ICLR 2021, tables and authors’ notebooks",
    ),
    Published(
        "independent: the other half of the training set",
        "p = 1e-12 (a false accusation)",
        "CIFAR-10, the victim trained on one half",
        "Szyller et al., TMLR 2023, authors’ slides",
    ),
)
