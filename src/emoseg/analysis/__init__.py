"""From a recording to its emotion over time, by a trained model."""
