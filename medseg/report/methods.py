"""How the numbers of a report were made, in short, with the papers."""

from __future__ import annotations

from medseg.ranking.evidence import Evidence

MASKS = (
    "Metrics are computed per test case; a case whose reference and prediction are both empty counts as perfect, and "
    "none is dropped."
)
CLASSES = (
    "The likeliest class is the prediction, and a label of several is predicted from a probability of 0.5 on. "
    "Sensitivity, specificity and the areas under curves are those of the last of two classes, else means over the "
    "classes, each against the rest; a class takes part if there are images with and without it. PR-AUC is average "
    "precision. The Brier score is half of Brier's sum over classes, for two classes the usual binary form. The "
    "expected calibration error has 15 bins of equal width (Guo et al. 2017, arXiv:1706.04599).",
    "Intervals of metrics of classes, unlike those of the ranking, are percentiles of a bootstrap of whole groups "
    "(patients, slides) within the test parts, moved out for few groups (Hesterberg 2015, "
    "doi:10.1080/00031305.2015.1089789): they say what other patients would have given for these networks, not what "
    "another training would.",
)


def methods(of: str, metric: str, evidence: Evidence | None, classes: bool = False) -> list[str]:
    """One sentence or two for each method that was used.

    Args:
        of: the factor whose levels compete.
        metric: the metric that ranks.
        evidence: what was judged.
        classes: the task is classification.
    """
    said = [
        *(CLASSES if classes else (MASKS,)),
        "A mean is a macro mean: over the cases of a run, then repeats, then the other factors, then data sets. A run "
        "counts the same whatever its number of cases.",
        "3-2-1 points: the first three of each contest earn 3, 2 and 1; ties share the better place. Mean ranks give "
        "ties the average of their places. Contests with a hole earn nobody points.",
    ]
    if evidence is None:
        return said
    said += [
        f"Intervals and probabilities of places are of a hierarchical bootstrap of {evidence.draws} draws (data sets "
        "where they are taken for a sample, then their repeats, then their cases, "
        "those of one patient, video or slide together; Davison and Hinkley "
        f"1997, doi:10.1017/CBO9780511802843), with the seed {evidence.seed} and the level {evidence.level:.0%}. The "
        "same draws are used for all, so that differences are paired.",
        f"A verdict sets the interval of a pair's difference, wide enough for all pairs at once, against the region of "
        f"practical equivalence of ±{evidence.rope:g} {metric}: beyond it the difference is real, within it the two "
        "are tied, across its edge the pair is under-powered (Kruschke 2018, doi:10.1177/2515245918771304).",
        "Over blocks: Friedman's test with the F of Iman and Davenport (1980, doi:10.1080/03610928008827904), "
        "Nemenyi's critical difference (Demšar 2006, JMLR 7), Wilcoxon's signed-rank test with Holm's correction "
        "(Holm 1979), and the Bayesian signed-rank test (Benavoli et al. 2014 and 2017, arXiv:1606.04316).",
    ]
    if evidence.per_case:
        said.append(
            "Over cases: Wilcoxon's signed-rank test on one value per distinct case, its mean over the repeats in "
            "which it was tested, with Holm's correction; effect sizes are Cliff's delta and Cohen's d of the paired "
            "differences."
        )
    if of == "loss":
        said.append(
            "A loss is called compound if it is the sum of two others. Losses are compared with all else equal: the "
            "same images, splits, seeds and settings."
        )
    return said
