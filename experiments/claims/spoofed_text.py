"""Spoofing and removal of radioactivity: what a judge finds about models that carry the mark without a theft.

Source: DITTO (EACL 2026), in which a student on marked texts carries another's mark; Pan et al., "Can LLM
Watermarks Robustly Prevent Unauthorized Knowledge Distillation?", ACL 2025, whose thieves paraphrase the marked
texts before the student learns them, or remove the mark from the student afterwards.

Here the paraphrase is a substitution of tokens by a language model of the thief's own, and the removal goes on
training on unmarked texts of his.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import numpy as np
import torch
from tqdm import tqdm

from experiments.claims.claim import Finding, Findings, over_seeds, share
from experiments.claims.radioactive_text import TextRadioactivity, key_of
from experiments.lab import Lab
from experiments.languages import about, billed, reach, speak
from owner.commitment import commit, receipt
from owner.log.log import Log
from owner.radioactive_text import MarkedText, RadioactiveText
from owner.text_judge import SPOOFED, TextCase, judge
from owner.text_nearness import of_model
from wire.completions import Completion
from zoo.data.pool import Pool
from zoo.language.model import LanguageModel
from zoo.language.tokens import END
from zoo.training import Training

LATER = timedelta(days=1)


@dataclass(frozen=True)
class SpoofedText(TextRadioactivity):
    """Students, third parties whose models were made to carry the mark, and thieves who remove it, before a judge.

    Attributes:
        own: Texts of its own that a third party's model learns, and a thief's.
        own_passes: Passes over these.
        substituted: Share of the tokens that a thief's own model replaces.
        controls: Models of the judge's own.
        judged: Texts by which the judge compares models.
    """

    ID: ClassVar[str] = "radioactivity-spoofed"
    SAYS: ClassVar[str] = "A mark in a model's texts does not tell a thief from a person who is framed"
    SOURCE: ClassVar[str] = "DITTO, EACL 2026; Pan et al., ACL 2025"

    own: int = 1100
    own_passes: int = 10
    substituted: float = 0.5
    controls: int = 4
    judged: int = 200

    def run(self, lab: Lab) -> Findings:
        """Makes the suspects, accuses and judges over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        measured: dict[int, dict[str, Any]] = {}
        victims = {}
        for seed in tqdm(lab.seeds, desc=self.ID, unit="victim"):
            pools, model = self.learnt(lab, seed)
            victims[f"victim-{seed}"] = about(model, pools["victim"], pools["evaluation"])
            log = Log.open(lab.parties.folder / f"log-{seed}", create=True)
            key = key_of(model, seed)
            log = commit(log, key.entry)
            path = lab.parties.folder / f"spoofed-{seed}.key"
            path.write_bytes(bytes.fromhex(key.seed))
            mark = f'{{ type = "green_list", key = "{path}", delta = {self.delta} }}'
            server = speak(lab, f"spoofed-{seed}", {"marked": (model, mark)})
            bought = {
                buyer: self._attack(model).bought(
                    reach(server, "marked", buyer), np.random.default_rng([seed, number])
                )
                for number, buyer in enumerate(("thief", "spoofer", "judge"))
            }
            private = pools["shadow"].x[: self.own].tolist(), pools["pool"].x[: self.own].tolist()
            third, his = (self._from(model, texts, seed + 10 + at) for at, texts in enumerate(private))
            suspects = self._suspects(model, bought, third, his, private[1], seed)
            controls = self._controls(model, bought, pools, seed)
            suspects |= {f"control {at}": control for at, control in enumerate(controls)}
            measured[seed] = self._judged(lab, seed, model, log, suspects, pools)
        return Findings(
            tuple(self._rows(measured)),
            {},
            victims,
            (
                "Third parties' models and controls have the victim's architecture and public tokens, and learnt "
                "other verses; the spoofer and the judge tune them on marked texts that they bought themselves.",
                "A judge accuses if the mark, the date and the nearness to the victim, beyond that of controls, "
                "all speak. The level of the nearness is 0.01.",
            ),
            {"measured": measured},
        )

    def _suspects(
        self,
        model: LanguageModel,
        bought: Mapping[str, Sequence[Completion]],
        third: LanguageModel,
        his: LanguageModel,
        private: Sequence[str],
        seed: int,
    ) -> dict[str, LanguageModel]:
        """Returns the suspects by name; ``his`` is the thief's own model, of his ``private`` texts."""
        attack, texts = self._attack(model), [one.text for one in bought["thief"]]
        student = attack.taught(bought["thief"], model.tokens, seed=seed + 1000, label="student")
        changed = paraphrased(texts, his, self.substituted, np.random.default_rng([seed, 5]))
        told = [Completion(text) for text in changed]
        spoofing = [one.text for one in bought["spoofer"]]
        return {
            "student": student,
            "student of paraphrased texts": attack.taught(
                told, model.tokens, seed=seed + 1001, label="paraphrased"
            ),
            "student, tuned on unmarked texts": tuned(student, private, 2, seed),
            "third party": third,
            "third party, spoofed": tuned(third, spoofing, self.passes, seed),
        }

    def _controls(
        self,
        model: LanguageModel,
        bought: Mapping[str, Sequence[Completion]],
        pools: Mapping[str, Pool],
        seed: int,
    ) -> Iterator[LanguageModel]:
        """Yields models of the judge's own, which he tuned on marked texts."""
        texts, told = pools["control"].x.tolist(), [one.text for one in bought["judge"]]
        size = min(self.own, len(texts) // self.controls)
        for at in range(self.controls):
            own = self._from(model, texts[at * size : (at + 1) * size], seed + 20 + at)
            yield tuned(own, told, self.passes, seed + at)

    def _from(self, model: LanguageModel, texts: Sequence[str], seed: int) -> LanguageModel:
        """Returns a model that learnt texts, with the victim's sizes and tokens."""
        training = Training(self.own_passes, batch=8, lr=3e-3)
        return LanguageModel.untrained(model.gpt, model.tokens, seed=seed).fit(
            texts, training, seed=seed, label="own"
        )

    def _judged(
        self,
        lab: Lab,
        seed: int,
        model: LanguageModel,
        log: Log,
        suspects: Mapping[str, LanguageModel],
        pools: Mapping[str, Pool],
    ) -> dict[str, Any]:
        """Accuses each suspect, and judges the evidence."""
        key = key_of(model, seed)
        held = MarkedText(model.tokens, replace(key, receipt=receipt(log, key.entry, key.opened_rule())))
        short = [text for text in pools["evaluation"].x if len(model.tokens.encode(text)) < model.gpt.context]
        texts, since = short[: self.judged], datetime.now(UTC) + LATER
        controls = [of_model(other, texts) for name, other in suspects.items() if name.startswith("control")]
        public = {f"suspect-{at}": (suspect, "") for at, suspect in enumerate(suspects.values())}
        server = speak(lab, f"judged-{seed}", public)
        proof = RadioactiveText(self.told, min(96, model.gpt.context - 1))
        found: dict[str, Any] = {}
        for at, (name, suspect) in enumerate(suspects.items()):
            rng = np.random.default_rng([seed, 2, at])
            oracle = reach(server, f"suspect-{at}", f"owner-{at}")
            evidence = proof.accuse(oracle, held, rng).signed(log.key)
            found[name] = {
                "z": evidence.details.z,
                "log_p": float(np.log10(max(evidence.p_value, 1e-300))),
                "owner": evidence.verdict,
                "perplexity": suspect.perplexity(pools["evaluation"].x[:100].tolist()),
                **billed(oracle),
            }
            if name.startswith("control"):
                continue
            judging = reach(server, f"suspect-{at}", f"judge-{at}")
            case, victim = TextCase(evidence, [log.heads[-1]], held, since), of_model(model, texts)
            said = judge(case, proof, judging, rng, texts=texts, victim=victim, controls=controls).details
            found[name] |= {
                "z_of_the_judge": said.mark.z,
                "finding": said.finding,
                "nearness": said.nearness,
                "nearness_of_controls": said.controls,
                "p_nearness": said.p_nearness,
            }
        return found

    def _rows(self, measured: Mapping[int, Mapping[str, Any]]) -> list[Finding]:
        rows = []
        setting = f"{self.tokens:,} marked tokens bought, {self.told:,} of the suspect read, delta {self.delta:g}"
        names = [name for name in next(iter(measured.values())) if not name.startswith("control")]
        for name in names:
            of = {seed: one[name] for seed, one in measured.items()}
            cost = f"perplexity {np.mean([each['perplexity'] for each in of.values()]):.1f}"
            for what, kind in (("z", "z"), ("log10 p", "log_p")):
                by_seed = {seed: each[kind] for seed, each in of.items()}
                rows.append(
                    over_seeds(
                        f"{name}: {what}", setting, "not told for this setting", by_seed, baseline=cost, unit=""
                    )
                )
            accused = sum(each["finding"] == "taken from the victim" for each in of.values())
            marked = sum(each["finding"] == SPOOFED for each in of.values())
            near = ", ".join(
                "-" if each["nearness"] is None else f"{each['nearness']:.2f}" for each in of.values()
            )
            theirs = [value for each in of.values() for value in each["nearness_of_controls"]]
            base = f"nearness of controls {np.mean(theirs):.2f} +- {np.std(theirs):.2f}" if theirs else "no mark"
            rows.append(
                share(
                    f"{name}: accused by the judge",
                    f"{marked} of {len(of)} are {SPOOFED}; nearness {near}",
                    "a spoof is not to be accused",
                    accused,
                    len(of),
                    seeds=of,
                    baseline=base,
                )
            )
        return rows


@torch.inference_mode()
def paraphrased(
    texts: Sequence[str], model: LanguageModel, replaced: float, rng: np.random.Generator
) -> list[str]:
    """Returns texts in which a share of the tokens is drawn anew by a model, each after the original ones."""
    found = []
    for text in texts:
        ids = model.tokens.encode(text)[: model.gpt.context - 1]
        if not ids:
            continue
        probs = model.decoder(torch.tensor([[END, *ids[:-1]]]))[0].double().softmax(1).numpy()
        probs[:, END] = 0
        drawn = (probs.cumsum(1) > rng.random((len(ids), 1)) * probs.sum(1, keepdims=True)).argmax(1)
        new = rng.random(len(ids)) < replaced
        found.append(model.tokens.decode(np.where(new, drawn, ids).tolist()))
    return found


def tuned(model: LanguageModel, texts: Sequence[str], passes: int, seed: int) -> LanguageModel:
    """Returns a copy of a model that went on learning texts."""
    other = LanguageModel(model.gpt, model.tokens, copy.deepcopy(model.decoder))
    return other.fit(texts, Training(passes, batch=16, lr=3e-3), seed=seed, label="tuned")
