"""What the widgets say, in English and German: one table."""

from __future__ import annotations

import locale
from collections.abc import Callable, Mapping

WORDS: Mapping[str, tuple[str, str]] = {
    "prompt": ("Your text", "Dein Text"),
    "prompt_2": ("Second text", "Zweiter Text"),
    "prompt_hint": ("e.g. a red circle above the sea", "z. B. ein roter Kreis über dem Meer"),
    "prompt_2_hint": ("may stay empty: then it is the text above", "darf leer bleiben: dann ist es der Text darüber"),
    "instruction": ("Your instruction", "Deine Anweisung"),
    "instruction_hint": ("What shall happen to the text?", "Was soll mit dem Text geschehen?"),
    "pipeline": ("Attitude", "Haltung"),
    "output": ("Output", "Ausgabe"),
    "seed": ("Seed", "Seed"),
    "seed_hint": ("empty: drawn by lot", "leer: wird gelost"),
    "seed_drawn": ("drawn: {}", "gelost: {}"),
    "image": ("Picture", "Bild"),
    "mask": ("Mask (white: change)", "Maske (weiß: ändern)"),
    "control": ("Guide picture", "Leitbild"),
    "settings": ("Settings of the output", "Einstellungen der Ausgabe"),
    "steps": ("Step by step", "Schritt für Schritt"),
    "run": ("Run", "Los"),
    "stop": ("Stop", "Stopp"),
    "again_same": ("Again, this seed", "Noch einmal, dieser Seed"),
    "again_new": ("Again, new seed", "Noch einmal, neuer Seed"),
    "history": ("Earlier runs", "Frühere Läufe"),
    "choose": ("choose …", "auswählen …"),
    "restore": ("Open a picture made here", "Ein Bild von hier öffnen"),
    "safety": ("Safety: {}", "Schutz: {}"),
    "safety_where": ("An adult can change it in devpipe.toml.", "Erwachsene können das in devpipe.toml ändern."),
    "input": ("What you wrote", "Was du geschrieben hast"),
    "interception": ("What became of it", "Was daraus wurde"),
    "pre_output": ("May it be made?", "Darf es entstehen?"),
    "generation": ("What was made", "Was entstanden ist"),
    "yours": ("Your turn: change the text, or leave it.", "Du bist dran: Ändere den Text, oder lass ihn."),
    "edit": ("The text", "Der Text"),
    "edit_2": ("The second text", "Der zweite Text"),
    "go_on": ("Go on", "Weiter"),
    "idle": ("Ready.", "Bereit."),
    "at": ("Stage {} of 4: {} …", "Stufe {} von 4: {} …"),
    "doing_input": ("looking at your text", "dein Text wird angesehen"),
    "doing_interception": ("the text is being rewritten", "der Text wird umgeschrieben"),
    "doing_pre_output": ("the text is being checked", "der Text wird geprüft"),
    "doing_generation": ("it is being made", "es entsteht"),
    "queued": ("{} before it", "{} davor"),
    "queued_s": ("{} before it, about {} s", "{} davor, etwa {} s"),
    "progress": ("{} of {}", "{} von {}"),
    "your_turn": ("Stage {} of 4 is done. It is your turn.", "Stufe {} von 4 ist fertig. Du bist dran."),
    "completed": ("Done in {} seconds.", "Fertig in {} Sekunden."),
    "blocked": ("Stopped by the check.", "Von der Prüfung angehalten."),
    "failed": ("Something went wrong.", "Etwas ist schiefgegangen."),
    "cancelled": ("Stopped.", "Angehalten."),
    "interrupted": ("Interrupted: its process ended early.", "Unterbrochen: Der Prozess endete zu früh."),
    "running": ("Running elsewhere.", "Läuft anderswo."),
    "for_adults": ("For adults", "Für Erwachsene"),
    "allowed": ("Yes. ({}, checked by {})", "Ja. ({}, geprüft durch {})"),
    "steps_made": ("On the way: {}", "Unterwegs: {}"),
    "partial": ("not finished", "nicht zu Ende geschrieben"),
    "reused": ("taken over from an earlier run", "aus einem früheren Lauf übernommen"),
    "by_user": ("your own wording", "deine eigene Fassung"),
    "no_picture": ("The picture appears here.", "Hier erscheint das Bild."),
    "restored": ("Filled in from the picture. Press Run to make it again.", "Aus dem Bild ausgefüllt. Mit Los entsteht es noch einmal."),
    "runs": ("Runs", "Läufe"),
}


def words(language: str = "") -> Callable[..., str]:
    """A function from a key (and what goes into its gaps) to what is said; "" means the language of this machine."""
    language = language or (locale.getlocale()[0] or "en")[:2]
    column = 1 if language == "de" else 0

    def say(key: str, *gaps: object) -> str:
        return WORDS[key][column].format(*gaps)

    return say
