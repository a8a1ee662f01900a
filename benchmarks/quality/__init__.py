"""Parts of `quality_pain`: its data, and how both sides are measured."""
