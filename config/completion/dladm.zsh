#compdef dladm
# Completion of dladm for zsh: source <(dladm completion zsh), or this file as _dladm in a directory of $fpath.
#
# The first line of the answer of dladm is "words" or "files". With "words" each further line is a word, a tab, and a text about it.
_dladm() {
  local answer line word
  local -a lines ended open
  answer=$($words[1] completion -- zsh "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null) || return 1
  lines=("${(@f)answer}")
  if [[ $lines[1] == files ]]; then
    compset -P '*='
    _files
    return
  fi
  for line in "${(@)lines[2,-1]}"; do
    word=${line%%$'\t'*}
    line="${word//:/\\:}:${line#*$'\t'}"
    if [[ $word == *[=,] ]]; then
      open+=("$line")
    else
      ended+=("$line")
    fi
  done
  _describe -t words word ended -- open -S ''
}
if [[ $funcstack[1] == _dladm ]]; then
  _dladm "$@"
else
  compdef _dladm dladm
fi
