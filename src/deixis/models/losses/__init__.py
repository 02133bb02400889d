"""Losses, one file for what each is about.

| file | losses of |
|---|---|
| `language` | the next token |
| `boxes`, `masks` | units, pair by pair |
| `anchors` | where decoders attend |
| `scoring` | quality estimates; what every decoder's loss is made of |
| `concepts` | words that cells show |
| `contrastive` | regions and their descriptions |

Losses of one decoder alone stand with it in `deixis.models.decoders`; `deixis.models.objectives`
adds them up.
"""
