"""What columns and features are called in a figure: one table from the names in code to the words that a
reader expects.

Every figure asks `words`; a name that is not in the table is shown without underscores.
"""

from __future__ import annotations

from collections.abc import Iterable

SIGNAL_EFFICIENCY = r"Signal efficiency $\varepsilon_S$"
BACKGROUND_REJECTION = r"Background rejection $1/\varepsilon_B$"
_NEIGHBOURS = "neighbour's "  # of the inputs of an edge convolution
WORDS = {
    # constituents
    "log_pt": r"$\ln p_T$",
    "log_energy": r"$\ln E$",
    "log_pt_rel": r"$\ln (p_T / p_T^\mathrm{jet})$",
    "log_energy_rel": r"$\ln (E / E^\mathrm{jet})$",
    "pt_fraction": r"$p_T / p_T^\mathrm{jet}$",
    "delta_r": r"$\Delta R$",
    "delta_eta": r"$\Delta\eta$",
    "delta_phi": r"$\Delta\phi$",
    "charge": "Charge",
    "is_charged_hadron": "Charged hadron",
    "is_neutral_hadron": "Neutral hadron",
    "is_photon": "Photon",
    "is_electron": "Electron",
    "is_muon": "Muon",
    "d0": r"$\tanh d_0$",
    "d0_error": r"$\sigma(d_0)$",
    "dz": r"$\tanh d_z$",
    "dz_error": r"$\sigma(d_z)$",
    "pt": r"$p_T$ [GeV]",
    "energy": "$E$ [GeV]",
    "E": "$E$ [GeV]",
    "px": "$p_x$ [GeV]",
    "py": "$p_y$ [GeV]",
    "pz": "$p_z$ [GeV]",
    "pdg_11": r"$e^\pm$",
    "pdg_13": r"$\mu^\pm$",
    "pdg_22": r"$\gamma$",
    "pdg_130": "$K^0_L$",
    "pdg_211": r"$\pi^\pm$",
    "pdg_321": r"$K^\pm$",
    "pdg_2112": "$n$",
    "pdg_2212": "$p$",
    # jets
    "jet_pt": r"Jet $p_T$ [GeV]",
    "jet_eta": r"Jet $\eta$",
    "jet_phi": r"Jet $\phi$",
    "jet_energy": "Jet energy [GeV]",
    "jet_mass": "Jet mass [GeV]",
    "jet_sdmass": "Soft-drop mass [GeV]",
    "jet_nparticles": "Constituents",
    "jet_tau1": r"$\tau_1$",
    "jet_tau2": r"$\tau_2$",
    "jet_tau3": r"$\tau_3$",
    "jet_tau4": r"$\tau_4$",
    "jet_mass_over_pt": r"$m / p_T$",
    "jet_width": "Jet width",
    "jet_lha": "Les Houches angularity",
    "jet_thrust": "Thrust",
    "jet_eccentricity": "Eccentricity",
    "jet_ptd": r"$p_T^D$",
    "jet_leading_fraction": r"Leading $p_T$ fraction",
    "jet_c2": "$C_2$",
    "jet_d2": "$D_2$",
    "weight": "Event weight",
    "aux_pthat": r"$\hat{p}_T$ [GeV]",
}


def words(name: str) -> str:
    """The name of a column or feature as a reader wants it."""
    if name in WORDS:
        return WORDS[name]
    if name.startswith(_NEIGHBOURS):
        return "Neighbour's " + words(name.removeprefix(_NEIGHBOURS))
    short = name.removeprefix("aux_").removeprefix("part_").replace("_", " ").strip()
    return short[:1].upper() + short[1:] if short else name


def all_words(names: Iterable[str]) -> list[str]:
    """`words` of each."""
    return [words(name) for name in names]
