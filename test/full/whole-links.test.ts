// The tests of links and mappings that `npm test` runs a part of (test/helpers/whole.ts), each try of them.
process.env['VARPD_TEST_WHOLE'] = 'yes';
await import('../netns/files-change.test.js');
await import('../netns/files-frames.test.js');
await import('../netns/others-change.test.js');
await import('../netns/owner.test.js');
await import('../netns/placement.test.js');
