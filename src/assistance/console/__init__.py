"""The pages at `/console` with which people see and act, on top of the API and the stages.

`blueprint` puts the pages together, one module each; `signing_in` knows who looks at them, `showing` makes the answers.
"""
