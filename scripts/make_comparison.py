"""Write docs/comparison.md from real runs of ``affuse compare``.

``AFFUSE_DATA=DIR python scripts/make_comparison.py [--out docs/comparison.md]``
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from affuse.evaluation.benchmarks import dataset_protocol
from affuse.evaluation.comparison import compare_fusers
from affuse.files import write_text
from affuse.fusion import registry

PAGE = """\
# Ways to fuse, compared

Every table on this page is what the command above it printed (`scripts/make_comparison.py` writes the page).
`AFFUSE_DATA` names the folder that holds the datasets; `--data` does as well.

How it is measured: every method is trained on the same rows and tested on the same other rows, and no actor or video
is on both sides. What a method chooses (weights, temperatures, whether to fuse at all), it chooses on the training
rows. Accuracy is the mean over folds. The 95 % interval is a bootstrap that draws whole actors or videos, p
comes from a test that swaps the method with the best single modality for whole actors or videos, and p (Holm) allows
for the number of methods. The best single modality is the best *on the very rows reported*, which favours it: no
method can know it beforehand. "Half" removes each modality from each row with a chance of one half; a row that is left
without any evidence is answered by the most frequent label. Noise is normal, added to the log-probabilities of every
modality. Times are medians of a fold on one core of a busy machine.

## RAVDESS: published outputs of three experts

A fine-tuned speech transformer and two networks over facial action units, each trained on some actors and tested on
others (Luna-Jiménez et al. 2021, doi:10.3390/s21227665). Each fold is fused by what is learned on the *test* files of
the other folds; the train files are outputs on rows that the experts were fitted on, and the leak alarm says so.

```console
$ affuse compare --dataset ravdess_posteriors --folds 0-3
{ravdess}
```

For comparison: the late fusion published with these outputs reads 86.70 % on all five folds (voice alone 81.82, face
alone 62.13); four of the five are measured here. The plain product, without correction for the frequency of the
labels, reads {plain:.2f} % on these four. Averages and votes lose to the voice alone, because two face experts that
say much the same outvote it.

## CMU-MOSI: sentiment of video reviews

Binary sentiment of utterances, from the transcript and from the published features of text, audio and video. Experts
are fitted on the train videos. The fuser learns on held-out videos other than those it is tested on, because the
train text and video features were made by networks that had seen the train labels: cross-validation on train is too
optimistic about them.

```console
$ affuse compare --dataset mosi
{mosi}
```

For comparison: the contextual LSTM that the features come from reads 78.1 % from text and 80.3 % from all three on
the *test* videos (Poria et al. 2017, doi:10.18653/v1/P17-1081), with the whole video as context. The figures above
are of the hold-out videos; `affuse compare --dataset mosi --split test` reports the test videos where they are
present, with a fuser that learns on all hold-out videos.

Audio and video are near chance here, so there is little to gain by fusing and much to lose: on 15 videos, no method
differs from the transcript alone by more than chance. The automatic choice fuses where held-out rows show that it
helps, and answers with the best modality otherwise.

## CREMA-D: what people heard, what people saw

About ten people heard each clip, about ten others saw it (Cao et al. 2014, doi:10.1109/TAFFC.2014.2336244). Their votes
are fused into what the actor meant. Of ten people who hear *and* see the clip, most name what was meant in 74.7 % of
the clips here; with `classwise` learned on their votes they read 78.6 %, actors apart.

```console
$ affuse compare --dataset cremad_votes --seeds 1
{cremad}
```

One weight an expert is not enough here: a face shows happiness and hides fear, a voice carries anger, and a label that
nobody of ten named is unlikely, but not impossible. `classwise` learns both; `auto` finds out that it should be used.

## EmotionTalk: what people judged from words, voice and face

One person each had only the words, the voice or the face of Mandarin dialogue; what the whole means was judged apart.

```console
$ affuse compare --dataset emotiontalk
{emotiontalk}
```

## Your own predictions

```console
$ cat my.csv
modality,path
labels,y.csv
face,face.csv
voice,voice.csv
$ affuse compare --manifest my.csv --group speaker --report report/
```

A table of predictions has one column that names the row (`id`, `clip` or `name`) and one a label; the table of labels
has the same names, the true label and the group that must not be split. Rows that a file lacks are missing evidence.
Where experts were trained by fold, a column `fold` in the manifest names the fold of each file, and each fold is
fused by what is learned on the others. `--report` writes one HTML page and a PNG each of intervals, confusions,
reliability, missing modalities and noise; `--json` prints all figures, every subset of modalities among them.
"""


def printed(*arguments: str) -> str:
    """What a command prints, alarms first."""
    command = [sys.executable, "-m", "affuse.cli", "compare", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line.rstrip() for line in (done.stderr + done.stdout).splitlines()]
    return "\n".join(lines).strip("\n")


def plain_product(data: Path) -> float:
    """Accuracy in percent of the product of probabilities, labels taken as equally frequent."""
    protocol = dataset_protocol("ravdess_posteriors", data, [0, 1, 2, 3], "dev", [0])
    k = len(protocol.labels)
    product = registry.make("product", prior=np.full(k, 1 / k))
    return 100 * float(compare_fusers(protocol, {"product": product}, "product").to_dict()["auto"]["accuracy"])


def main() -> None:
    """Run everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/comparison.md"))
    out = parser.parse_args().out
    page = PAGE.format(
        ravdess=printed("--dataset", "ravdess_posteriors", "--folds", "0-3"),
        mosi=printed("--dataset", "mosi"),
        cremad=printed("--dataset", "cremad_votes", "--seeds", "1"),
        emotiontalk=printed("--dataset", "emotiontalk"),
        plain=plain_product(Path(os.environ["AFFUSE_DATA"])),
    )
    write_text(out, page)


if __name__ == "__main__":
    main()
