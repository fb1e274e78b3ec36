"""What the Basic Application Level Confidentiality Profile does to each element (PS3.15 Annex E).

The table E.1-1 and the dummy values are those of dicom-anonymizer. It applies them to the top of a data set alone; here
they reach every item of every sequence, references keep their structure, and what the table does not know is judged by
its kind, to the strict side.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset
    from pydicom.tag import BaseTag

#: edition of the table in dicom-anonymizer
EDITION = "dicomfields_2026c"
#: functions of dicom-anonymizer -> codes of table E.1-1
CODES = {
    "delete": "X",
    "empty": "Z",
    "replace": "D",
    "replace_UID": "U",
    "empty_or_replace": "Z/D",
    "delete_or_empty": "X/Z",
    "delete_or_replace": "X/D",
    "delete_or_empty_or_replace": "X/Z/D",
    "delete_or_empty_or_replace_UID": "X/Z/U*",
}
#: free text, dates and times that the table does not list
WORDS = frozenset({"LT", "ST", "UC", "UT", "DA", "DT", "TM"})
#: kinds that are judged by what the dictionary says; an unlisted element of one that is written as another kind goes
STRICT = frozenset({*WORDS, "AE", "PN", "SQ", "UI", "UR"})
#: what names or describes a person in elements that the table does not list and whose kind is a short text
PERSONAL = frozenset(
    {
        "BreedRegistrationNumber",
        "ComponentWelderIDs",
        "ContactDisplayName",
        "DoseComment",
        "FrameOfReferenceTransformationComment",
        "HangingProtocolCreator",
        "ItineraryID",
        "BoardingPassID",
        "OwnerID",
        "PatientAlternativeCalendar",
        "PatientBirthDateInAlternativeCalendar",
        "PatientDeathDateInAlternativeCalendar",
        "SubstanceAdministrationNotes",
    }
)
#: value representations of text in which a retired element may name somebody
RETIRED_TEXT = frozenset({"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UT"})
#: elements that name a scheme or a standard, and nobody
STANDARD = frozenset(
    {
        "CodingSchemeName",
        "CodingSchemeUID",
        "CodingSchemeURL",
        "ContextGroupExtensionCreatorUID",
        "ContextUID",
        "LongCodeValue",
        "MappingResourceUID",
        "URNCodeValue",
    }
)
#: UIDs of the standard itself, such as classes and well-known frames of reference
WELL_KNOWN = "1.2.840.10008."
#: dummies of dates and times that viewers and checkers accept; the year 1 of dicom-anonymizer they do not
DUMMIES = {"DA": "19000101", "DT": "19000101000000", "TM": "000000"}
#: of the sequences that may be emptied or removed, those that images need (type 2, PS3.3 C.7.6.14)
NEEDED = frozenset({"AcquisitionContextSequence"})
REMOVED, EMPTIED, REPLACED = "removed", "emptied", "replaced"


@dataclass
class Pseudonyms:
    """What replaces UIDs and patients: always the same for the same one, random, and kept nowhere but here.

    Args:
        uids: old UID -> new one.
        patients: who -> new name and number.
    """

    uids: dict[str, str] = field(default_factory=dict, repr=False)
    patients: dict[tuple[str, ...], str] = field(default_factory=dict, repr=False)

    def uid(self, old: str) -> str:
        """The new UID, of a random UUID (PS3.5 B.2)."""
        from pydicom.uid import generate_uid

        if old not in self.uids:
            self.uids[old] = str(generate_uid(prefix=None))
        return self.uids[old]

    def patient(self, dataset: Dataset) -> str:
        """A number for the patient, by the old one and who issued it; without one by name and birthday, or study."""
        words = {
            keyword: str(dataset.get(keyword) or "").strip()
            for keyword in (
                "PatientID",
                "IssuerOfPatientID",
                "PatientName",
                "PatientBirthDate",
                "StudyInstanceUID",
            )
        }
        if words["PatientID"]:
            who: tuple[str, ...] = (words["PatientID"], words["IssuerOfPatientID"])
        elif words["PatientName"]:
            who = ("", words["PatientName"], words["PatientBirthDate"])
        else:
            who = ("", "", "", words["StudyInstanceUID"])
        if who not in self.patients:
            self.patients[who] = f"ANON-{secrets.token_hex(4).upper()}"
        return self.patients[who]


@lru_cache(maxsize=1)
def table() -> Mapping[int, str]:
    """Tag -> code of table E.1-1; repeating groups are left to ``action_of``."""
    from dicomanonymizer.simpledicomanonymizer import initialize_actions

    return {
        (tag[0] << 16) | tag[1]: CODES[action.__name__]
        for tag, action in initialize_actions(EDITION).items()
        if len(tag) == 2
    }


def action_of(tag: BaseTag, vr: str) -> str:
    """The code for one element: of the table, or for what it does not list by kind; empty to keep it.

    Private elements go (PS3.15 E.3.10 keeps safe ones, which is not done), and with their data the whole of overlays
    (60xx), curves (50xx) and padding. So does what no dictionary knows, and retired text. Other free text, dates and
    times are replaced, names emptied, network addresses removed; what is written as another kind than the dictionary's,
    which would hide it from these rules, goes.
    """
    from pydicom.datadict import dictionary_has_tag, dictionary_is_retired, dictionary_VR, keyword_for_tag

    if tag.is_private or tag.group & 0xFF00 in (0x5000, 0x6000) or tag == 0xFFFCFFFC:
        return "X"
    if int(tag) in table():
        return table()[int(tag)]
    if tag.element == 0 or not dictionary_has_tag(tag):
        return "X"
    if vr in RETIRED_TEXT and dictionary_is_retired(tag):
        return "X"
    keyword, kind = keyword_for_tag(tag), dictionary_VR(tag)
    if keyword in PERSONAL or (kind in STRICT and vr != kind):
        return "X"
    if keyword in STANDARD:
        return ""
    if vr == "UI":
        return "" if "SOPClass" in keyword or "TransferSyntax" in keyword else "U"
    if vr in WORDS or vr == "UR":
        return "D"
    return {"PN": "Z", "AE": "X", "UN": "X"}.get(vr, "")


def clean(dataset: Dataset, pseudonyms: Pseudonyms, above: str = "") -> list[tuple[str, str, str]]:
    """Apply the profile to a data set and to all items of its sequences, in place.

    Args:
        dataset: decoded or not.
        pseudonyms: of this call.
        above: the tags of the sequences that it lies in.

    Returns:
        Of every element changed: tag (``(0040,0275)(0040,0007)`` inside a sequence), keyword and what was done; never
        a value, and no name of a private element.
    """
    done = []
    for tag in sorted(dataset.keys()):
        place = f"{above}({tag.group:04X},{tag.element:04X})"
        element = _read(dataset, tag)
        if element is None:  # its bytes are not what they should be
            del dataset[tag]
            done.append((place, _keyword(tag), REMOVED))
            continue
        code = action_of(tag, element.VR)
        if element.VR == "SQ" and (not code or code == "X/Z/U*"):
            for item in element.value:
                done += clean(item, pseudonyms, place)
            continue
        outcome = _apply(dataset, element, code, pseudonyms) if code else ""
        if outcome:
            done.append((place, _keyword(tag), outcome))
    return done


def _read(dataset: Dataset, tag: BaseTag) -> DataElement | None:
    try:
        return dataset[tag]
    except Exception:  # pydicom documents no closed list of what broken bytes raise
        return None


def _keyword(tag: BaseTag) -> str:
    from pydicom.datadict import keyword_for_tag

    return "" if tag.is_private else keyword_for_tag(tag)


def _apply(dataset: Dataset, element: DataElement, code: str, pseudonyms: Pseudonyms) -> str:
    """Do what a code says; where it leaves a choice, what is valid whatever the type of the element (PS3.5 7.4)."""
    if code == "U":
        return _renew(element, pseudonyms)
    sequence = element.VR == "SQ" and code != "Z" and element.keyword not in NEEDED
    if code == "X" or sequence:
        del dataset[element.tag]
        return REMOVED
    if element.is_empty:
        return ""
    if code in ("Z", "X/Z"):
        element.value = [] if element.VR == "SQ" else None
        return EMPTIED
    if element.VR in DUMMIES:
        element.value = DUMMIES[element.VR]
        return REPLACED
    return _replace(dataset, element)


def _renew(element: DataElement, pseudonyms: Pseudonyms) -> str:
    if element.is_empty:
        return ""
    old = [str(one) for one in (element.value if element.VM > 1 else [element.value])]
    new = [one if one.startswith(WELL_KNOWN) or not one else pseudonyms.uid(one) for one in old]
    if new == old:
        return ""
    element.value = new if len(new) > 1 else new[0]
    return REPLACED


def _replace(dataset: Dataset, element: DataElement) -> str:
    from dicomanonymizer.simpledicomanonymizer import replace_element

    try:
        replace_element(element)
    except NotImplementedError:  # a kind without a dummy
        del dataset[element.tag]
        return REMOVED
    return REPLACED
