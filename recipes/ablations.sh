#!/bin/sh
# The paper's ablations on its tasks (Devlin et al. 2019, section 5.1, table 5: no next sentence, left
# to right, left to right with a BiLSTM; section 5.2, table 6: model size), a row of scores a model.
#
#   sh recipes/ablations.sh GLUE OUT MODEL...
#
# From the project's root. GLUE has a folder for each of $TASKS (two or more; sst-2,sts-b); every model is
# fine-tuned on each of them with $SEEDS seeds (3), into OUT/<model>. A left-to-right model is also
# fine-tuned with a BiLSTM on it. A call that was interrupted goes on where it stopped. Models are
# directories: recipes/bert-tiny.sh makes no_next_sentence and left_to_right; for the full model at
# the same number of steps, give its run_pretraining --phase2_num_train_steps=1000 and a new
# --output_dir; for sizes, other numbers in --bert_config_file, or google's own small models:
# hf://google/bert_uncased_L-2_H-128_A-2, L-4_H-256_A-4, L-4_H-512_A-8, L-8_H-512_A-8.
#
# price   of BERT-tiny 3 minutes a model and seed on two cores
# result  one seed, SST-2 accuracy and STS-B Pearson: no next sentence 0.786, 0.219; left to right 0.795, 0.140,
#         with a BiLSTM on it STS-B 0.188; the full model after 8000 steps 0.813, 0.221 (docs/pretraining.md)
set -eu
glue=$1
out=$2
shift 2

finetune() { # a name, a checkpoint, and what is special to it
  name=$1 checkpoint=$2
  shift 2
  "${PYTHON:-python}" -m tools.run_finetuning --task_name="${TASKS:-sst-2,sts-b}" \
    --data_dir="$glue" --output_dir="$out/$name" --init_checkpoint="$checkpoint" \
    --num_seeds="${SEEDS:-3}" --learning_rate=3e-4 --num_train_epochs=2 --do_train --do_eval "$@"
  names="${names:-} $name"
}

for model; do
  name=$(basename "$model")
  finetune "$name" "$model"
  if grep -qs '"left_to_right": true' "$model/config.json"; then
    finetune "$name+bilstm" "$model" --lstm_size=128
  fi
done

first=1
for name in $names; do
  awk -v name="$name" -v first="$first" -v OFS='\t' \
    'NR > 1 { print name, $0 } NR == 1 && first { print "model", $0 }' "$out/$name/summary.tsv"
  first=0
done
