"""Losses, one file per subject.

| file | losses of |
|---|---|
| `language` | the next token |
| `boxes`, `masks` | pairs of predicted and true units |
| `anchors` | the attention of anchors |
| `scoring` | quality estimates; functions that all decoders' losses use |
| `concepts` | concepts of cells |
| `contrastive` | regions and their descriptions |

Losses of a single decoder are in its file in `deixis.models.decoders`; `deixis.models.objectives`
adds the losses of all decoders.
"""
