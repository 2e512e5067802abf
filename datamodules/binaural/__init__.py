"""Clips with two-ear sound: FAIR-Play, MUSIC-Stereo, YT-Clean, and clips of one's own."""
