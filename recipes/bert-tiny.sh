#!/bin/sh
# BERT-tiny (2 layers, hidden size 128) from raw text alone, and two ablations of the paper beside it
# (Devlin et al. 2019, section 5.1): without next sentence prediction, and left to right.
#
#   sh recipes/bert-tiny.sh [TEXT [OUT [FLAGS of run_pretraining, for all three]]]
#
# From the project's root. TEXT has a paragraph a line and a blank line between documents, OUT gets
# everything. A call that was interrupted goes on where it stopped.
#
set -eu
text=${1:-../shared/data/corpus/wikipedia_paragraphs.txt}
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

# Every 14th document is held out: of the default text 31 of 442, among them "Appalachian
# Mountains", "Boston", "Neptune", "On the Origin of Species", "Treaty" and "Web browser".
mkdir -p "$out"
awk -v RS= -v ORS='\n\n' 'NR % 14 != 0' "$text" > "$out/train.txt"
awk -v RS= -v ORS='\n\n' 'NR % 14 == 0' "$text" > "$out/held_out.txt"
test -e "$out/vocab.txt" ||
  run learn_vocabulary --input_file="$out/train.txt" --vocab_size=4000 --output_file="$out/vocab.txt"
records train
records held_out

pretrain bert "$@"
# The rate is the same until the last tenth of a run, so the curves compare step by step.
pretrain no_next_sentence --phase2_num_train_steps=1500 --nonext_sentence "$@"
pretrain left_to_right --phase2_num_train_steps=1500 --left_to_right "$@"

run plot_metrics --metric=mask_token_loss --mark=mask_token_entropy --output_file="$out/curves.png" \
  --run_dir="$out/bert,$out/no_next_sentence,$out/left_to_right"
