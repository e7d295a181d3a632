"""Timing of denoisers: streams (`streams`), a camera's pace (`camera`), other engines (`compare`), the machine."""
