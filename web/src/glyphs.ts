// The sign of each rule: shape tells the rule, colour only the severity. One path on a box of 12 by 12 for canvas and SVG.

export const GLYPHS: Readonly<Record<string, string>> = {
  R1: "M6 .6 11.4 6 6 11.4 .6 6Z",
  R2: "M1.4 1.4h9.2v9.2H1.4Z",
  R3: "M6 .6 11.2 6H8.6v5.4H3.4V6H.8Z",
  R4: "M.8 1.6 6 6 11.2 1.6V10.4L6 6 .8 10.4Z",
  R5: "M6 .8a5.2 5.2 0 1 1 0 10.4A5.2 5.2 0 1 1 6 .8Z",
  R6: "M3.2 1.2h5.6L11.6 6 8.8 10.8H3.2L.4 6Z",
  R7: "M.4 4h11.2v4H.4Z",
  R8: "M4.2.8h3.6v3.4h3.4v3.6H7.8v3.4H4.2V7.8H.8V4.2h3.4Z",
};
