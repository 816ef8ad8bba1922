"""A short piece of music that a text sets: its syllables are the notes."""

from __future__ import annotations

import hashlib
import io
import math
import re
import wave
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devpipe.offline.sketch.palette import luminance, named
from devpipe.offline.sketch.reading import fold, read, vocabulary
from devpipe.values import derived_seed

RATE = 44_100
_PEAK = 0.7  # -3 dB of full scale
_TAIL = 0.7  # seconds in which the last notes die away
_BEAT = 0.24  # seconds of a short syllable, before the piece is fitted to its length

Wave = NDArray[np.float64]

_LIGHTS = {"night": -7, "dusk": -3, "": 0, "dawn": 4, "day": 5}
_PAUSES = {",": 1.0, ";": 1.5, ":": 1.5, ".": 2.0, "!": 2.0, "?": 2.0, "\n": 2.0}
_PIECE = re.compile(r"[^\W_]+|[,;:.!?\n]")
_SYLLABLE = re.compile(r"[^aeiouy]*[aeiouy]+(?:[^aeiouy]+$)?")


@dataclass(frozen=True, slots=True)
class _Note:
    """When (in beats), which degree of the scale, how long, how loud, sung on which vowel."""

    start: float
    degree: int
    beats: float
    loud: float
    vowel: str


def sound(text: str, *, seed: int, seconds: float, language: str = "") -> bytes:
    """A piece of so many seconds as WAV, 16 bit, stereo, 44.1 kHz: equal bytes for equal arguments.

    Syllables are notes of a scale that the mood chooses, vowels their timbre; light and colours set
    the register, punctuation
    rests; a short text comes again, varied, until the time is over.
    """
    reading, total = read(text, language), max(1, round(seconds * RATE))
    rng = np.random.default_rng(derived_seed(seed, reading.key, "sound"))
    shades = [luminance(named(mention.colour)) for mention in reading.colours] or [0.45]
    scale, root = (
        vocabulary()["scales"][reading.mood],
        57 + _LIGHTS.get(reading.light, 0) + int(rng.integers(-2, 3)),
    )
    root += round(10 * (sum(shades) / len(shades) - 0.45))  # up for light, down for dark
    notes, beats = _melody(text, seconds, rng)
    beat = max(0.05, seconds - _TAIL) / beats if seconds > 2 * _TAIL else seconds / (beats + 2)
    mix = np.zeros((total, 2))
    for index, note in enumerate(notes):
        place = 0.5 + 0.35 * math.sin(index * 2.4)
        _add(
            mix,
            _tone(_pitch(scale, root, note.degree), note.beats * beat + 0.35, note.vowel)
            * note.loud,
            note.start * beat,
            place,
        )
        if index % 8 == 0:  # a low fifth carries the phrase
            for degree, vowel, loud in ((0, "o", 0.4), (len(scale) // 2 + 1, "u", 0.25)):
                _add(
                    mix,
                    loud * _tone(_pitch(scale, root - 24, degree), 8 * beat + 0.6, vowel),
                    note.start * beat,
                    0.5,
                )
    return _wav(_in_a_room(mix, rng))


def _melody(text: str, seconds: float, rng: np.random.Generator) -> tuple[list[_Note], float]:
    """The notes and how many beats they fill: as much text as the time allows, again and again if
    it is short.
    """
    pieces = _PIECE.findall(text)
    if not any(_syllables(piece) for piece in pieces):
        pieces = [hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]]
    wanted, at, lift, notes = max(4.0, seconds / _BEAT), 0.0, 0, list[_Note]()
    while True:
        for piece in pieces:
            for place, syllable in enumerate(_syllables(piece)):
                if at >= wanted:
                    return notes, at
                notes.append(_note(syllable, at, lift, stressed=place == 0, rng=rng))
                at += notes[-1].beats
            at += _PAUSES.get(piece, 0.25)
        lift = int(rng.integers(-1, 3))


def _syllables(piece: str) -> list[str]:
    if piece in _PAUSES:
        return []
    word = fold(piece)[:60]  # the search below takes quadratic time where no vowel comes
    return _SYLLABLE.findall(word) or [
        word[i : i + 2] for i in range(0, len(word), 2)
    ]  # a script or a word without vowels


def _note(
    syllable: str, at: float, lift: int, *, stressed: bool, rng: np.random.Generator
) -> _Note:
    digest = hashlib.sha256(syllable.encode("utf-8", "replace")).digest()
    vowels = [c for c in syllable if c in "aeiouy"] or ["aeiouy"[digest[1] % 6]]
    long = 1.0 + 0.5 * (len(vowels) > 1 or len(syllable) > 4) + 0.5 * stressed
    # The same syllable is always the same degree: repetition in the text is repetition in the
    # melody.
    return _Note(
        at,
        digest[0] % 8 + lift,
        long,
        (0.9 if stressed else 0.6) * rng.uniform(0.85, 1.0),
        vowels[0],
    )


def _pitch(scale: tuple[int, ...], root: int, degree: int) -> float:
    octave, step = divmod(degree, len(scale))
    return 440.0 * 2 ** ((root + 12 * octave + scale[step] - 69) / 12)


def _tone(frequency: float, seconds: float, vowel: str) -> Wave:
    """One note with a soft beginning and an end at zero, so that nothing clicks."""
    t = np.arange(round(seconds * RATE)) / RATE
    vibrato = 0.0025 * np.sin(math.tau * 5.2 * t) * np.minimum(1, t / 0.4) / 5.2 * frequency
    angle = math.tau * frequency * t + vibrato
    # Strengths of the harmonics: i is bright, u is nearly a sine.
    heard = [
        (k, strength)
        for k, strength in enumerate(vocabulary()["vowels"][vowel], 1)
        if k * frequency < RATE / 2.5
    ]
    voice = sum(
        (strength * np.exp(-t * k * 1.1) * np.sin(k * angle) for k, strength in heard),
        np.zeros(len(t)),
    )
    rise, fall = np.minimum(1, t / 0.018), np.clip((seconds - t) / max(0.05, 0.5 * seconds), 0, 1)
    return np.asarray(voice * (3 * rise**2 - 2 * rise**3) * fall**2)


def _add(mix: Wave, tone: Wave, start: float, place: float) -> None:
    """Lay a tone into the stereo mix: `place` 0 is left, 1 right, of equal power."""
    at = round(start * RATE)
    tone = tone[: max(0, len(mix) - at)]
    mix[at : at + len(tone)] += tone[:, None] * np.sqrt([1 - place, place])


def _in_a_room(mix: Wave, rng: np.random.Generator) -> Wave:
    """The mix with a second of echo from both sides: noise that dies away, convolved."""
    decay = (
        np.exp(-np.arange(RATE) / RATE * 5.5)[:, None]
        * np.minimum(1, np.arange(RATE) / 900)[:, None]
    )
    echo = rng.standard_normal((RATE, 2)) * decay
    echo /= np.sqrt((echo**2).sum(axis=0))
    size = 1 << (len(mix) + RATE - 1).bit_length()
    wet = np.fft.irfft(
        np.fft.rfft(mix, size, axis=0) * np.fft.rfft(echo, size, axis=0), size, axis=0
    )[: len(mix)]
    return np.asarray(mix + 0.22 * wet)


def _wav(mix: Wave) -> bytes:
    """The mix as a file: without offset, as loud as -3 dB, silent at both ends."""
    ramp = np.minimum(1, np.arange(len(mix)) / (0.01 * RATE))[:, None]
    end = np.minimum(1, np.arange(len(mix))[::-1] / (0.4 * RATE))[:, None]
    mix = (mix - mix.mean(axis=0)) * ramp * end**2
    mix = mix * (_PEAK / max(1e-9, float(np.abs(mix).max())))
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((2, 2, RATE, 0, "NONE", ""))
        file.writeframes(np.rint(mix * 32767).astype("<i2").tobytes())
    return out.getvalue()
