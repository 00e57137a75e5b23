// For each line on stdin, a number: starts the program with that many descriptors from 3 up, and
// prints the seconds until it has ended.
const {spawn} = require('child_process');
const {openSync} = require('fs');
const files = [];
require('readline').createInterface({input: process.stdin}).on('line', (line) => {
  const count = Number(line);
  while (files.length < count) files.push(openSync('/dev/null', 'r'));
  const stdio = ['inherit', 'inherit', 'inherit', ...files.slice(0, count)];
  const before = process.hrtime.bigint();
  spawn(process.argv[2], [], {stdio}).on('exit', () => {
    console.log(Number(process.hrtime.bigint() - before) / 1e9);
  });
});
