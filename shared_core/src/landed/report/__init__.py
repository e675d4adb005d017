"""What happened to each artifact, as one page: who wrote, who was refused, what was verified, what was lost.

`landed.report.model` is what a page shows, `landed.report.directory` fills it from what landed knows of a directory,
and `landed.report.page` makes one self-contained HTML file of it. `landed.cli.report` is the command.
"""
