#!/bin/sh
# BERT-tiny (2 layers, hidden size 128) from raw text alone, and two ablations of the paper beside it
# (Devlin et al. 2019, section 5.1): without next sentence prediction, and left to right.
#
#   sh recipes/bert-tiny.sh [CORPUS [OUT [FLAGS of run_pretraining, for all three]]]
#
# From the project's root. CORPUS is a folder of *.txt with a paragraph a line and a blank line
# between documents, and books/*.txt with wrapped lines and a blank line between paragraphs; OUT
# gets everything. A call that was interrupted goes on where it stopped.
#
# price   about half an hour on two idle cores, and 9 minutes for each ablation; data and vocabulary 1 minute
# result  on held-out documents: loss at [MASK] 3.65 (6.57 by word frequencies), next sentence 74.3 %;
#         after 3000 steps 4.24, without next sentence 4.14, left to right 5.21
set -eu
corpus=${1:-../shared/data/corpus}
out=${2:-runs/bert-tiny}
shift $(($# < 2 ? $# : 2))

run() {
  command=$1
  shift
  "${PYTHON:-python}" -m "tools.$command" "$@"
}

records() { # of a text file, once
  test -e "$out/$1/manifest.json" || run create_pretraining_data --input_file="$out/$1.txt" \
    --split_sentences --vocab_file="$out/vocab.txt" --masking=dynamic --output_dir="$out/$1"
}

pretrain() { # a run and what is special to it
  name=$1
  shift
  run run_pretraining --flagfile=recipes/bert-tiny.flags --input_file="$out/train" \
    --eval_input_file="$out/held_out" --output_dir="$out/$name" "$@"
}

# Forty paragraphs of a book are a document, each brought onto one line.
mkdir -p "$out"
{
  cat "$corpus"/*.txt
  echo
  for book in "$corpus"/*/*.txt; do
    test ! -e "$book" ||
      awk -v RS= '{ gsub(/[\r\n]+/, " "); print } NR % 40 == 0 { print "" } END { print "" }' "$book"
  done
} > "$out/text.txt"

# Every 14th document is held out: of the default corpus 56 of 794, among them the articles on the
# Appalachian Mountains, Boston, Neptune, On the Origin of Species, the treaty and the web browser.
awk -v RS= -v ORS='\n\n' 'NR % 14 != 0' "$out/text.txt" > "$out/train.txt"
awk -v RS= -v ORS='\n\n' 'NR % 14 == 0' "$out/text.txt" > "$out/held_out.txt"

test -e "$out/vocab.txt" ||
  run learn_vocabulary --input_file="$out/train.txt" --vocab_size=4000 --output_file="$out/vocab.txt"
records train
records held_out

pretrain bert "$@"
# On the plateau of its schedule a longer run has the same rate: the curves compare step by step.
pretrain no_next_sentence --phase2_num_train_steps=1000 --nonext_sentence "$@"
pretrain left_to_right --phase2_num_train_steps=1000 --left_to_right --nonext_sentence "$@"

run plot_metrics --metric=mask_token_loss --mark=mask_token_entropy --output_file="$out/curves.png" \
  --run_dir="$out/bert,$out/no_next_sentence,$out/left_to_right"
