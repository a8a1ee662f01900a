"""Parts of models that are pad-invariant and work for one member or for many: import them from their modules.

`dropout`, `norm`, `recurrent`, `pooling` and `mlp` hold torch modules; `stacked` and `cells` run `recurrent` for many
members at once; `vectorise` tells which models can be. `config` holds the section that builds a model and needs no
torch.
"""
