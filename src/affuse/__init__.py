"""affuse: what people feel in a recording, fused from face, voice and words."""
