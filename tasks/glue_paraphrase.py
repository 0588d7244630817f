"""The two tasks of GLUE that ask whether two texts mean the same.

Dolan and Brockett, 2005: https://aclanthology.org/I05-5002. Wang et al., 2018:
https://arxiv.org/abs/1804.07461.
"""

import pathlib

from bert_keras.errors import InputError
from tasks import tables
from tasks.glue import GlueTask, kept, read_rows


class MRPC(GlueTask):
    """Microsoft Research Paraphrase Corpus: do two sentences of news say the same?

    "Quality | #1 ID | #2 ID | #1 String | #2 String". Read from GLUE's train.tsv and dev.tsv,
    or from Microsoft's msr_paraphrase_train.txt and msr_paraphrase_test.txt: with GLUE's
    dev_ids.tsv beside them the pairs that it names are taken out of train as dev, without it the
    (labelled) test file is dev.
    """

    name = "mrpc"
    labels = ("not_equivalent", "equivalent")
    metrics = ("accuracy", "f1")
    text_names = ("#1 String", "#2 String")
    label_name = "Quality"
    file_names = {
        "train": ("train.tsv", "msr_paraphrase_train.txt"),
        "dev": ("dev.tsv", "msr_paraphrase_train.txt"),
        "test": ("test.tsv", "msr_paraphrase_test.txt"),
    }

    def path(self, split: str) -> pathlib.Path:
        path = super().path(split)
        if split == "dev" and split not in self.files and path.name == "msr_paraphrase_train.txt":
            test = path.with_name("msr_paraphrase_test.txt")
            return path if path.with_name("dev_ids.tsv").is_file() else test
        return path

    def table(self, split: str) -> tables.Table:
        path = self.path(split)
        if split == "test" or path.name != "msr_paraphrase_train.txt" or split in self.files:
            return tables.read_table(path)
        dev_ids = path.with_name("dev_ids.tsv")
        if not dev_ids.is_file():
            return tables.read_table(path)
        return _part(tables.read_table(path), dev_ids, inside=split == "dev")


class QQP(GlueTask):
    """Quora Question Pairs: do two questions ask the same?

    "id | qid1 | qid2 | question1 | question2 | is_duplicate", in test "id | question1 |
    question2". Some rows of GLUE's train.tsv are broken in two by a line end inside a question;
    every published reader leaves out rows with too few columns, and so does this one, but in test,
    where the leaderboard counts the rows.
    """

    name = "qqp"
    labels = ("not_duplicate", "duplicate")
    metrics = ("accuracy", "f1")
    text_names = ("question1", "question2")
    label_name = "is_duplicate"
    index_name = "id"
    empty_texts = True

    def table(self, split: str) -> tables.Table:
        if split == "test":
            return super().table(split)
        path = self.path(split)
        rows = read_rows(path)
        width = len(rows[0])
        for line, cells in enumerate(rows, start=1):
            if len(cells) > width:
                raise InputError(f"{path}:{line}: {len(cells)} columns, expected {width}")
        whole = [line for line, cells in enumerate(rows, start=1) if len(cells) == width]
        broken = [line for line, cells in enumerate(rows, start=1) if len(cells) < width]
        if len(whole) == 1:
            raise InputError(f"{path}: no row has the {width} columns of the header")
        if broken:
            self.note(
                f"{path}: {len(broken)} rows with fewer than {width} columns left out, the first "
                f"on line {broken[0]}"
            )
        return tables.Table(path, rows[0], [rows[line - 1] for line in whole[1:]], whole[1:])


def _part(table: tables.Table, dev_ids: pathlib.Path, inside: bool) -> tables.Table:
    """The rows whose two ids are in `dev_ids`, or those whose are not."""
    named = {row[:2] for row in tables.read_table(dev_ids, header=False, columns=2).rows}
    first, second = table.column("#1 ID"), table.column("#2 ID")
    rows = [
        row
        for row, cells in enumerate(table.rows)
        if ((cells[first], cells[second]) in named) == inside
    ]
    if not rows:
        which = "none" if inside else "all"
        raise InputError(f"{dev_ids}: names {which} of the pairs in {table.path}; wrong file?")
    return kept(table, rows)
