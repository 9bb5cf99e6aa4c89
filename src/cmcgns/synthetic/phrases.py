"""The reporter's vocabulary. Slots: {size}, {side}, {zone}; a sentence never says more than is true."""

SIZES = {
    "opacity": (
        ("subtle", "small", "faint"),
        ("moderate", "patchy moderate"),
        ("large", "dense", "extensive"),
    ),
    "fluid": (("small", "tiny", "trace"), ("moderate", "moderate-sized"), ("large", "very large")),
    "heart": (("mildly", "slightly", "borderline"), ("moderately",), ("severely", "markedly")),
    "process": (("mild", "minimal", "slight"), ("moderate",), ("severe", "marked")),
}
SIZE_KIND = {
    "Consolidation": "opacity",
    "Pneumonia": "opacity",
    "Lung Opacity": "opacity",
    "Lung Lesion": "fluid",
    "Pleural Effusion": "fluid",
    "Pneumothorax": "fluid",
    "Cardiomegaly": "heart",
    "Enlarged Cardiomediastinum": "heart",
}  # all others: process
ZONES = {
    "apex": ("apex", "apical region"),
    "upper": ("upper lobe", "upper lung", "upper zone", "upper lung zone"),
    "mid": ("mid lung", "mid zone", "mid lung zone"),
    "lower": ("lower lobe", "lower lung", "lower zone", "lower lung zone"),
    "base": ("base", "lung base", "basal region"),
    "whole": ("lung",),
}

# label -> sentences of the FINDINGS section that state it
POSITIVE = {
    "Cardiomegaly": (
        "the heart is {size} enlarged",
        "the cardiac silhouette is {size} enlarged",
        "heart size is {size} enlarged",
        "there is cardiomegaly, the heart being {size} enlarged",
        "{size} enlarged heart",
        "the cardiac shadow appears {size} enlarged",
    ),
    "Enlarged Cardiomediastinum": (
        "the mediastinum is {size} widened",
        "the mediastinal contour is {size} widened",
        "{size} widened superior mediastinum",
        "the cardiomediastinal silhouette is {size} widened superiorly",
    ),
    "Lung Opacity": (
        "there is a {size} hazy opacity in the {side} {zone}",
        "a {size} opacity projects over the {side} {zone}",
        "{size} opacity in the {side} {zone}",
        "a {size} ill-defined opacity is seen in the {side} {zone}",
    ),
    "Lung Lesion": (
        "there is a {size} round nodule in the {side} {zone}",
        "a {size} well-circumscribed mass is seen in the {side} {zone}",
        "{size} nodular lesion in the {side} {zone}",
        "a {size} nodule projects over the {side} {zone}",
    ),
    "Edema": (
        "there is {size} pulmonary edema",
        "{size} interstitial pulmonary edema is present",
        "bilateral perihilar haze is consistent with {size} pulmonary edema",
        "pulmonary vascular congestion with {size} edema",
        "findings of {size} pulmonary edema with perihilar opacities",
    ),
    "Consolidation": (
        "there is a {size} consolidation in the {side} {zone}",
        "a {size} consolidation is seen in the {side} {zone}",
        "{size} airspace consolidation in the {side} {zone}",
        "{side} {zone} consolidation, {size} in extent",
        "a {size} area of consolidation involves the {side} {zone}",
    ),
    "Pneumonia": (
        "this {side} {zone} process is consistent with pneumonia",
        "appearances in the {side} {zone} are compatible with pneumonia",
        "in the appropriate clinical setting this represents {side} {zone} pneumonia",
        "{side} {zone} pneumonia",
    ),
    "Atelectasis": (
        "there is {size} linear atelectasis at the {side} {zone}",
        "{size} {side} basilar atelectasis",
        "plate-like atelectasis at the {side} {zone} is {size}",
        "{size} bandlike atelectasis is present at the {side} {zone}",
        "streaky opacities at the {side} {zone} reflect {size} atelectasis",
    ),
    "Pneumothorax": (
        "there is a {size} {side} apical pneumothorax",
        "a {size} {side} pneumothorax is present",
        "{size} {side} pneumothorax with a visible pleural line",
        "a visceral pleural line is seen, consistent with a {size} {side} pneumothorax",
    ),
    "Pleural Effusion": (
        "there is a {size} {side} pleural effusion",
        "a {size} {side} pleural effusion is present",
        "{size} {side} effusion",
        "blunting of the {side} costophrenic angle is compatible with a {size} pleural effusion",
        "{size} layering {side} pleural effusion",
    ),
    "Pleural Other": (
        "there is {size} {side} pleural thickening",
        "{size} pleural thickening along the {side} chest wall",
        "{size} {side} pleural scarring",
    ),
    "Fracture": (
        "there is a {size} displaced fracture of a {side} rib",
        "a {side} rib fracture with {size} displacement is noted",
        "{side} {zone} rib fracture, {size} displacement",
    ),
}
# The same, said with doubt.
UNCERTAIN = {
    "Cardiomegaly": (
        "the heart is possibly {size} enlarged",
        "possible cardiomegaly",
        "heart size may be {size} enlarged",
    ),
    "Enlarged Cardiomediastinum": (
        "possible {size} widened mediastinum",
        "the mediastinum may be {size} widened",
    ),
    "Lung Opacity": (
        "possible {size} opacity in the {side} {zone}",
        "questionable opacity in the {side} {zone}",
    ),
    "Lung Lesion": (
        "possible {size} nodule in the {side} {zone}",
        "a nodule in the {side} {zone} cannot be excluded",
    ),
    "Edema": (
        "possible {size} pulmonary edema",
        "{size} pulmonary edema cannot be excluded",
        "there may be {size} edema",
    ),
    "Consolidation": (
        "possible {size} consolidation in the {side} {zone}",
        "a {side} {zone} consolidation cannot be excluded",
        "there may be a {size} consolidation in the {side} {zone}",
    ),
    "Pneumonia": (
        "this could represent {side} {zone} pneumonia",
        "pneumonia in the {side} {zone} cannot be excluded",
        "possible {side} {zone} pneumonia",
    ),
    "Atelectasis": (
        "possible {size} atelectasis at the {side} {zone}",
        "{side} basilar opacity may reflect {size} atelectasis",
        "probable {size} {side} basilar atelectasis",
    ),
    "Pneumothorax": (
        "possible {size} {side} pneumothorax",
        "a {size} {side} pneumothorax cannot be excluded",
    ),
    "Pleural Effusion": (
        "possible {size} {side} pleural effusion",
        "a {size} {side} effusion cannot be excluded",
        "there may be a {size} {side} pleural effusion",
    ),
    "Pleural Other": ("possible {side} pleural thickening",),
    "Fracture": ("possible {side} rib fracture", "a {side} rib fracture cannot be excluded"),
}
# labels -> sentences that deny them all
NEGATIVE = {
    ("Pleural Effusion", "Pneumothorax"): (
        "no pleural effusion or pneumothorax",
        "there is no pleural effusion or pneumothorax",
        "no pneumothorax or effusion is seen",
        "no evidence of pneumothorax or pleural effusion",
    ),
    ("Pleural Effusion",): (
        "no pleural effusion",
        "there is no effusion",
        "the costophrenic angles are sharp, no effusion",
    ),
    ("Pneumothorax",): ("no pneumothorax", "there is no pneumothorax", "no pneumothorax is identified"),
    ("Consolidation", "Pleural Effusion", "Pneumothorax"): (
        "no focal consolidation, pleural effusion or pneumothorax",
        "there is no focal consolidation, effusion, or pneumothorax",
        "no evidence of consolidation, pneumothorax or pleural effusion",
    ),
    ("Consolidation",): ("no focal consolidation", "there is no focal consolidation"),
    ("Pneumonia",): ("no evidence of pneumonia", "no pneumonia"),
    ("Edema",): ("no pulmonary edema", "there is no pulmonary vascular congestion or edema"),
    ("Cardiomegaly",): (
        "the heart is normal in size",
        "heart size is normal",
        "the cardiac silhouette is not enlarged",
        "the cardiac silhouette is within normal limits",
    ),
    ("Enlarged Cardiomediastinum",): (
        "the mediastinal contours are unremarkable",
        "mediastinal contour is normal",
    ),
    ("Cardiomegaly", "Enlarged Cardiomediastinum"): (
        "cardiomediastinal silhouette is within normal limits",
        "the heart size and mediastinal contours are normal",
    ),
    ("Fracture",): (
        "no displaced rib fracture",
        "no acute osseous abnormality",
        "bony structures are intact",
    ),
    ("Lung Lesion",): ("no pulmonary nodule or mass", "no suspicious nodule"),
    ("Consolidation", "Edema", "Lung Opacity"): (
        "the lungs are clear",
        "lungs are clear",
        "clear lungs bilaterally",
    ),
}
DEVICES = {
    "endotracheal tube": (
        "an endotracheal tube ends above the carina",
        "endotracheal tube in standard position",
    ),
    "central line": (
        "a {side} internal jugular central line ends in the superior vena cava",
        "{side} central venous line in place",
    ),
    "pacemaker": ("a {side} pectoral pacemaker with leads in place", "{side}-sided pacemaker is noted"),
    "chest tube": ("a {side} chest tube is in place", "{side} pleural drain is present"),
    "enteric tube": (
        "an enteric tube courses below the diaphragm",
        "nasogastric tube passes into the stomach",
    ),
    "port": ("a {side} chest wall port is in place", "{side} Port-A-Cath is noted"),
}
# Short forms for the impression.
SHORT = {
    "Cardiomegaly": ("{size} enlarged heart", "cardiomegaly", "{size} enlarged cardiac silhouette"),
    "Enlarged Cardiomediastinum": ("{size} widened mediastinum",),
    "Lung Opacity": ("{side} {zone} opacity", "{size} {side} {zone} opacity"),
    "Lung Lesion": (
        "{size} {side} {zone} nodule",
        "{side} {zone} mass, further evaluation with CT is recommended",
    ),
    "Edema": ("{size} pulmonary edema", "{size} edema"),
    "Consolidation": ("{side} {zone} consolidation", "{size} consolidation in the {side} {zone}"),
    "Pneumonia": ("{side} {zone} pneumonia", "findings consistent with {side} {zone} pneumonia"),
    "Atelectasis": ("{side} basilar atelectasis", "{size} {side} basilar atelectasis"),
    "Pneumothorax": ("{size} {side} pneumothorax", "{side} pneumothorax"),
    "Pleural Effusion": ("{size} {side} pleural effusion", "{side} pleural effusion"),
    "Pleural Other": ("{side} pleural thickening",),
    "Fracture": ("{side} rib fracture",),
}
PLURALS = {
    "effusion": "effusions",
    "angle": "angles",
    "base": "bases",
    "basal region": "basal regions",
    "pneumothorax": "pneumothoraces",
}
NORMAL_IMPRESSION = (
    "no acute cardiopulmonary process",
    "no acute cardiopulmonary abnormality",
    "normal chest radiograph",
    "no acute intrathoracic process",
    "no radiographic evidence of acute disease",
)
FILLERS = (
    "the osseous structures are grossly unremarkable",
    "the upper abdomen is unremarkable",
    "the patient is slightly rotated",
    "the imaged soft tissues are unremarkable",
    "evaluation is limited by technique",
    "degenerative changes are noted in the spine",
)
CHANGES = {
    "new": (", new since the prior study", ", which is new since ___"),
    "same": (", unchanged from the prior study", ", stable since ___", ", similar to prior"),
    "worse": (", increased since the prior study", ", worse compared to ___"),
    "better": (", decreased since the prior study", ", improved from ___"),
}
INDICATIONS = (
    "___ year old {person} with cough and fever  // eval for pneumonia",
    "___ year old {person} with shortness of breath  // acute process?",
    "History: ___ with chest pain",
    "___ {person} with dyspnea, evaluate for effusion or edema",
    "___ year old {person} s/p fall  // eval for fracture, pneumothorax",
    "___ year old {person} with new line placement  // eval line position",
)
ADDENDA = (
    "The findings were discussed with Dr. ___ by telephone at ___ on ___.",
    "Dr. ___ was paged with the results at ___, ___ minutes after discovery.",
)
